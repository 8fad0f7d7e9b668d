"""JSON schemas: the JSON texts that are valid under one.

Nothing is ignored: a keyword that is not handled here is refused by its name and place.
Whatever is written is valid; not all that is valid is written: properties come in the
schema's order, there is at most one space between two tokens of JSON, and objects have
no properties that the schema does not name.
"""

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from jaxdecode.core import check
from jaxdecode.transforms.patterns.errors import NESTING_MAX, PatternError
from jaxdecode.transforms.patterns.language import (
    NEVER,
    NOTHING,
    Node,
    choices,
    fields,
    optional,
    repeat,
    sequence,
    text,
)
from jaxdecode.transforms.patterns.numbers import Bounds, integer, number
from jaxdecode.transforms.patterns.strings import FORMATS, string

SPACE = optional(text(" "))
COMMA = sequence(text(","), SPACE)
ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "examples", "$schema", "$comment"),
        *("deprecated", "readOnly", "writeOnly", "$defs", "definitions"),
        "discriminator",  # OpenAPI's hint beside `oneOf`, which says all that it says
    )
)
KEYWORDS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "boolean": (),
    "null": (),
}
COMBINED = ("enum", "const", "anyOf", "oneOf", "allOf", "$ref")
KNOWN = ANNOTATIONS | {"type", *COMBINED, *(k for ks in KEYWORDS.values() for k in ks)}


def schema_node(schema: Any, *, depth: int | None = None) -> Node:
    """Return the language of a schema.

    Args:
      schema: a dict or a bool, made of what JSON has.
      depth: how often a definition may occur inside itself; None refuses that.

    Raises:
      PatternError: if it is malformed, not supported, or no text is valid.
    """
    node = _Reader(schema, depth).node(schema, "#", 0, {})
    if node == NEVER:
        raise PatternError("the schema must allow some value, and it allows none.")
    return node


class _Reader:
    """Reads one document.

    `open_` says, of each reference on the way, how often it was followed.
    """

    def __init__(self, document: Any, depth: int | None):
        self.document, self.depth = document, depth
        self.known: dict[tuple, Node] = {}

    def node(self, schema: Any, place: str, level: int, open_: dict) -> Node:
        if level > NESTING_MAX:
            raise _at(place, f"a schema must have at most {NESTING_MAX} levels")
        if schema is False:
            return NEVER
        if schema is True or schema == {}:
            raise _at(place, "any value at all is not supported; say which `type`")
        if not isinstance(schema, Mapping):
            raise _at(place, f"a schema must be a dict, got {check.short(schema)}")
        for keyword in schema:
            is_root_id = keyword == "$id" and level == 0
            if keyword not in KNOWN and not is_root_id:
                raise _at(place, f"the keyword {keyword!r} is not supported")
        combined = [keyword for keyword in COMBINED if keyword in schema]
        if combined:
            return self._combined(schema, combined, place, level, open_)
        return choices(
            _TYPES[kind](self, schema, place, level, open_)
            for kind in _types(schema, place)
        )

    def _combined(self, schema, combined, place, level, open_) -> Node:
        keyword = combined[0]
        beside = {"type"} if keyword in ("enum", "const") else set()
        for other in schema:
            if other != keyword and other not in ANNOTATIONS | beside | {"$id"}:
                raise _at(place, f"{other!r} beside {keyword!r} is not supported")
        value, inside = schema[keyword], f"{place}/{keyword}"
        if keyword == "$ref":
            return self._reference(value, inside, level, open_)
        if keyword == "const":
            return _constants([value], schema, inside)
        if not isinstance(value, list) or not value:
            raise _at(inside, f"must be a list, not empty, got {check.short(value)}")
        if keyword == "enum":
            return _constants(value, schema, inside)
        if keyword == "allOf" and len(value) > 1:
            raise _at(inside, "more than one schema is not supported")
        return choices(
            self.node(option, f"{inside}/{i}", level + 1, open_)
            for i, option in enumerate(value)
        )

    def _reference(self, name: Any, place: str, level: int, open_: dict) -> Node:
        times = open_.get(name, 0)
        if times and self.depth is None:
            raise _at(
                place, f"{name!r} refers to itself; `depth` must say how often it may"
            )
        if times > (self.depth or 0):
            return NEVER
        inside = {**open_, name: times + 1}
        key = (name, frozenset(inside.items()))
        if key not in self.known:
            target = self._find(name, place)
            self.known[key] = self.node(target, name, level + 1, inside)
        return self.known[key]

    def _find(self, name: Any, place: str) -> Any:
        if not isinstance(name, str) or not (name == "#" or name.startswith("#/")):
            raise _at(
                place,
                f"must be a place in this schema (#/...), got {check.short(name)}",
            )
        target = self.document
        for part in name.split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and part.isdigit() and int(part) < len(target):
                target = target[int(part)]
            elif isinstance(target, Mapping) and part in target:
                target = target[part]
            else:
                raise _at(place, f"there is no {name!r} in this schema")
        return target

    def object(self, schema, place, level, open_) -> Node:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        others = schema.get("additionalProperties", False)
        if not isinstance(properties, Mapping):
            raise _at(f"{place}/properties", "must be a dict")
        if not isinstance(required, list):
            raise _at(f"{place}/required", "must be a list")
        missing = [name for name in required if name not in properties]
        if missing:
            raise _at(
                f"{place}/required",
                f"{check.short(missing[0])} must be among the properties",
            )
        if isinstance(others, Mapping) and others and not properties:
            return self._map(others, place, level, open_)
        if others is not False:
            raise _at(
                f"{place}/additionalProperties",
                "must be false, absent, or the one schema of an object without "
                "properties",
            )
        if (
            not properties
            and "properties" not in schema
            and ("additionalProperties" not in schema)
        ):
            raise _at(place, "an object must have `properties`")
        items = []
        for name, inner in properties.items():
            inside = f"{place}/properties/{_escaped(name)}"
            value = self.node(inner, inside, level + 1, open_)
            key = sequence(_constant(name, inside), text(":"), SPACE)
            items.append((sequence(key, value), name in required))
        return _braced("{", fields(items, COMMA, SPACE), "}")

    def _map(self, schema, place, level, open_) -> Node:
        inside = f"{place}/additionalProperties"
        value = self.node(schema, inside, level + 1, open_)
        return _list("{", sequence(string(), text(":"), SPACE, value), 0, None, "}")

    def array(self, schema, place, level, open_) -> Node:
        if schema.get("uniqueItems", False) is not False:
            raise _at(place, "the keyword 'uniqueItems' is not supported")
        low = _count(schema, "minItems", place) or 0
        high = _count(schema, "maxItems", place)
        if "items" not in schema:
            raise _at(place, "an array must have `items`")
        items = self.node(schema["items"], f"{place}/items", level + 1, open_)
        return _list("[", items, low, high, "]")

    def string(self, schema, place, level, open_) -> Node:
        pattern, kind = schema.get("pattern"), schema.get("format")
        if pattern is not None and not isinstance(pattern, str):
            raise _at(f"{place}/pattern", "must be a str")
        if kind is not None and kind not in FORMATS:
            names = ", ".join(FORMATS)
            raise _at(
                f"{place}/format",
                f"{check.short(kind)} is not supported; known are {names}",
            )
        try:
            return string(
                low=_count(schema, "minLength", place) or 0,
                high=_count(schema, "maxLength", place),
                pattern=pattern,
                format=kind,
            )
        except PatternError as error:
            raise _at(place, str(error).rstrip(".")) from None

    def integer(self, schema, place, level, open_) -> Node:
        return integer(_bounds(schema, place))

    def number(self, schema, place, level, open_) -> Node:
        try:
            return number(_bounds(schema, place))
        except PatternError as error:
            raise _at(place, str(error).rstrip(".")) from None

    def boolean(self, schema, place, level, open_) -> Node:
        return choices([text("true"), text("false")])

    def null(self, schema, place, level, open_) -> Node:
        return text("null")


_TYPES = {
    "object": _Reader.object,
    "array": _Reader.array,
    "string": _Reader.string,
    "integer": _Reader.integer,
    "number": _Reader.number,
    "boolean": _Reader.boolean,
    "null": _Reader.null,
}


def _types(schema: Mapping, place: str) -> list[str]:
    """Return the types of a schema, from its keywords where it names none."""
    given = schema.get("type")
    if given is None:
        kinds = ("object", "array", "string")
        found = [kind for kind in kinds if set(KEYWORDS[kind]) & set(schema)]
        if len(found) == 1:
            return found
        raise _at(
            place, "a schema must have a `type`, `enum`, `const`, `anyOf` or `$ref`"
        )
    kinds = given if isinstance(given, list) else [given]
    for kind in kinds:
        if kind not in KEYWORDS:
            raise _at(f"{place}/type", f"there is no type {check.short(kind)}")
    if not kinds:
        raise _at(f"{place}/type", "must name a type")
    if "number" in kinds:  # integers are numbers
        kinds = [kind for kind in kinds if kind != "integer"]
    return kinds


def _constants(values: list, schema: Mapping, place: str) -> Node:
    kinds = _types(schema, place) if "type" in schema else list(KEYWORDS)
    kept = [value for value in values if any(_is(kind, value) for kind in kinds)]
    return choices(_constant(value, place) for value in kept)


def _constant(value: Any, place: str) -> Node:
    """Return the JSON texts of one value."""
    if isinstance(value, Mapping):
        items = [
            (
                sequence(_constant(key, place), text(":"), SPACE, _constant(v, place)),
                True,
            )
            for key, v in value.items()
        ]
        return _braced("{", fields(items, COMMA, SPACE), "}")
    if isinstance(value, list):
        items = [(_constant(item, place), True) for item in value]
        return _braced("[", fields(items, COMMA, SPACE), "]")
    try:
        return text(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (ValueError, TypeError):
        raise _at(place, f"{check.short(value)} is no value of JSON") from None


def _is(kind: str, value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    if isinstance(value, (int, float)):
        return kind == "number" or (kind == "integer" and float(value).is_integer())
    return isinstance(
        value, {"object": Mapping, "array": list, "string": str}.get(kind, ())
    )


def _list(begin: str, item: Node, low: int, high: int | None, end: str) -> Node:
    if high is not None and high < low:
        return NEVER
    if high == 0:
        return _braced(begin, NOTHING, end)
    least = max(low - 1, 0)
    most = None if high is None else high - 1
    some = sequence(item, repeat(sequence(COMMA, item), least, most), SPACE)
    return _braced(begin, some if low else choices([NOTHING, some]), end)


def _braced(begin: str, inner: Node, end: str) -> Node:
    return sequence(text(begin), SPACE, inner, text(end))


def _count(schema: Mapping, keyword: str, place: str) -> int | None:
    value = schema.get(keyword)
    if value is None:
        return None
    whole = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not whole or value < 0 or value != int(value):
        raise _at(
            f"{place}/{keyword}", f"must be an integer >= 0, got {check.short(value)}"
        )
    return int(value)


def _bounds(schema: Mapping, place: str) -> Bounds:
    found: dict[str, Fraction] = {}
    for keyword in KEYWORDS["number"]:
        value = schema.get(keyword)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _at(
                f"{place}/{keyword}", f"must be a number, got {check.short(value)}"
            )
        found[keyword] = Fraction(repr(value))
    low, low_open = _tighter(found, "minimum", "exclusiveMinimum", max)
    high, high_open = _tighter(found, "maximum", "exclusiveMaximum", min)
    return Bounds(low, high, low_open, high_open)


def _tighter(found, closed, open_, choose) -> tuple[Fraction | None, bool]:
    given = [found[name] for name in (closed, open_) if name in found]
    bound = choose(given, default=None)
    return bound, bound is not None and found.get(open_) == bound


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _at(place: str, message: str) -> PatternError:
    return PatternError(f"`schema` at {place}: {message}.")
