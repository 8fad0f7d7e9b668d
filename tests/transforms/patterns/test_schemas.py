"""What a JSON schema lets be written: valid always, refused by name, never ignored."""

import json
import random
import re

import jsonschema
import numpy as np
import pydantic
import pytest

import jaxdecode as jd
from jaxdecode.transforms.patterns.building import build
from jaxdecode.transforms.patterns.byte_automaton import DEAD, distances
from jaxdecode.transforms.patterns.schema import schema_node

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "right": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "left", "right"],
        }
    },
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "mail": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        "active": {"type": "boolean"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMAS = {
    "person": PERSON,
    "tree": TREE,
    "integer": {"type": "integer"},
    "from -37 to 1205": {"type": "integer", "minimum": -37, "maximum": 1205},
    "above 17.5": {"type": "integer", "exclusiveMinimum": 17.5},
    "below -3": {"type": "integer", "exclusiveMaximum": -3},
    "number": {"type": "number"},
    "-1.5 to 2.25": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2.25},
    "above 0": {"type": "number", "exclusiveMinimum": 0},
    "up to .07": {"type": "number", "minimum": 0.05, "maximum": 0.07},
    "string": {"type": "string", "minLength": 2, "maxLength": 4},
    "quote": {"type": "string", "pattern": '^a"b[^c]+$', "maxLength": 9},
    "found": {"type": "string", "pattern": r"\d{3}", "minLength": 4, "maxLength": 6},
    "spaces": {"type": "string", "pattern": r"^[^\s]\S\W\D[^\W]$"},
    "controls": {"type": "string", "pattern": "^[\\x00-\\x1f]{2}\\\\$"},
    **{f: {"type": "string", "format": f} for f in ("date", "time", "date-time")},
    **{f: {"type": "string", "format": f} for f in ("uuid", "email")},
    "date before": {"type": "string", "format": "date", "pattern": "^19"},
    "constants": {"enum": ["é\n", 2, None, 1.5, {"a": [1, {}]}, [], True]},
    "typed": {"type": "string", "enum": ["a", "b", 3]},
    "array": {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 3},
    "none": {"type": "array", "items": {"type": "null"}, "maxItems": 0},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "empty": {"type": "object", "properties": {}},
    "all left out": {
        "type": "object",
        "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
    },
    "types": {"type": ["integer", "null", "string"], "maxLength": 3, "minimum": 5},
    "one": {"oneOf": [{"type": "boolean"}, {"allOf": [{"const": 7}]}]},
}

SPACED = ("tree", "array", "none", "empty", "all left out")  # no strings in them


def sample(automaton, rng, size):
    """Return a text that the automaton accepts: a walk, then the shortest way out."""
    letters = [np.flatnonzero(automaton.classes == k) for k in range(256)]
    distance = distances(automaton.follows, automaton.accepts)
    state, out = 0, []
    while not (automaton.accepts[state] and (len(out) >= size or rng.random() < 0.1)):
        row = automaton.follows[state]
        kinds = np.flatnonzero(row != DEAD)
        if len(out) >= size:
            kinds = [k for k in kinds if distance[row[k]] < distance[state]]
        if not len(kinds):
            break
        kind = rng.choice(list(kinds))
        out.append(int(rng.choice(letters[kind])))
        state = row[kind]
    return bytes(out).decode()


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_is_written_is_valid(name):
    schema, rng = SCHEMAS[name], random.Random(name)
    automaton = build(schema_node(schema, depth=2))
    kind = jsonschema.Draft202012Validator
    validator = kind(schema, format_checker=kind.FORMAT_CHECKER)
    for _ in range(60):
        text = sample(automaton, rng, rng.randrange(60))
        validator.validate(json.loads(text))
        assert "  " not in text or name not in SPACED, text


@pytest.mark.parametrize(
    ("low", "high"), [(-37, 1205), (0, 9), (99, 101), (-11, -9), (7, 7), (-1000, 1000)]
)
def test_integers_are_exactly_those_within_bounds(low, high):
    schema = {"type": "integer", "minimum": low, "maximum": high}
    automaton = build(schema_node(schema))
    for n in range(-1300, 1300):
        assert automaton.matches(str(n).encode()) == (low <= n <= high), n
    for text in (b"01", b"-0", b"", b"-", b"1.0", b"+1"):
        assert not automaton.matches(text)


@pytest.mark.parametrize(
    "bounds",
    [
        {"minimum": -0.5, "maximum": 1.25},
        {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"minimum": 0.101, "exclusiveMaximum": 0.11},
        {"maximum": -0.3},
    ],
)
def test_numbers_are_exactly_those_within_bounds(bounds):
    schema = {"type": "number", **bounds}
    automaton = build(schema_node(schema))
    validator = jsonschema.Draft202012Validator(schema)
    for thousandths in range(-1500, 1500):
        text = f"{thousandths / 1000:.3f}"
        for form in {text, text.rstrip("0").rstrip(".")}:
            if form.startswith("-0") and float(form) == 0:
                continue
            valid = validator.is_valid(float(form))
            assert automaton.matches(form.encode()) == valid, form


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"name":"a","age":5}', True),
        ('{ "name": "a", "age": 5 }', True),
        ('{"name": "\\"\\\\\\n", "age": 130, "active": true}', True),
        ('{"name":"a","age":5,"mail":"a.b@c.de","tags":[],"active":false}', True),
        ('{"name":"a","age":5,"tags":["x", "y","z"]}', True),
        ('{"name":"a","age":131}', False),
        ('{"age":5,"name":"a"}', False),
        ('{"name":"a"}', False),
        ('{"name":"a","age":5,}', False),
        ('{"name":"a","age":5,"x":1}', False),
        ('{"name":"a\n","age":5}', False),
        ('{"name":"a","age":5,"tags":["x","y","z","u"]}', False),
        ('{"name":"a","age":5}  ', False),
    ],
)
def test_an_object_has_its_properties_in_order(text, fits):
    assert build(schema_node(PERSON)).matches(text.encode()) == fits


@pytest.mark.parametrize(
    ("day", "fits"),
    [
        *(("2024-02-29", True), ("2023-02-29", False), ("2000-02-29", True)),
        *(("1900-02-29", False), ("2024-04-31", False), ("2024-12-31", True)),
        *(("0000-01-01", False), ("0001-01-01", True), ("2024-13-01", False)),
    ],
)
def test_a_date_is_one_of_the_calendar(day, fits):
    automaton = build(schema_node(SCHEMAS["date"]))
    assert automaton.matches(f'"{day}"'.encode()) == fits


def test_a_definition_may_occur_inside_itself_as_often_as_was_said():
    def leaf(depth):
        inner = leaf(depth - 1) if depth else None
        return {"value": 1, "left": inner, "right": None}

    for depth in range(4):
        automaton = build(schema_node(TREE, depth=depth))
        for size in range(5):
            text = json.dumps(leaf(size)).encode()
            assert automaton.matches(text) == (size <= depth)


NAMED = [
    # what other tools drop without a word
    ({"type": "integer", "multipleOf": 3}, "at #: the keyword 'multipleOf'"),
    ({"type": "array", "items": {}, "contains": {}}, "at #: the keyword 'contains'"),
    ({"not": {"type": "string"}}, "at #: the keyword 'not'"),
    ({"if": {}, "then": {}}, "at #: the keyword 'if'"),
    ({"type": "object", "patternProperties": {}}, "keyword 'patternProperties'"),
    ({"type": "object", "propertyNames": {}}, "keyword 'propertyNames'"),
    ({"type": "object", "minProperties": 1}, "keyword 'minProperties'"),
    ({"type": "object", "maxProperties": 1}, "keyword 'maxProperties'"),
    ({"type": "object", "dependentRequired": {}}, "keyword 'dependentRequired'"),
    ({"type": "object", "unevaluatedProperties": False}, "'unevaluatedProperties'"),
    (
        {"type": "array", "items": {"type": "null"}, "uniqueItems": True},
        "keyword 'uniqueItems'",
    ),
    ({"type": "array", "prefixItems": []}, "keyword 'prefixItems'"),
    # the place
    (
        {"type": "object", "properties": {"a/b": {"type": "string", "foo": 1}}},
        "at #/properties/a~1b: the keyword 'foo'",
    ),
    (
        {"type": "array", "items": {"type": "string", "format": "ipv9"}},
        "at #/items/format: 'ipv9' is not supported; known are date,",
    ),
    (
        {"anyOf": [{"type": "null"}, {"type": "string", "pattern": r"\bx"}]},
        "at #/anyOf/1: the pattern must not have a word boundary",
    ),
    ({"type": "string", "pattern": "("}, "at #: the pattern must be a regular expr"),
    ({"type": "object", "required": ["x"]}, "at #/required: 'x' must be among"),
    ({"type": "object"}, "at #: an object must have `properties`"),
    ({"type": "array"}, "at #: an array must have `items`"),
    (
        {"type": "object", "properties": {}, "additionalProperties": True},
        "at #/additionalProperties: must be false",
    ),
    ({"type": "integre"}, "at #/type: there is no type 'integre'"),
    ({}, "at #: any value at all"),
    ({"title": "x"}, "at #: a schema must have a `type`"),
    ({"type": "string", "minLength": -1}, "at #/minLength: must be an integer >= 0"),
    ({"type": "integer", "minimum": "1"}, "at #/minimum: must be a number"),
    ({"type": "integer", "anyOf": [{}]}, "at #: 'type' beside 'anyOf'"),
    ({"allOf": [{"type": "null"}] * 2}, "at #/allOf: more than one"),
    ({"$ref": "#/$defs/x"}, r"at #/\$ref: there is no '#/\$defs/x'"),
    ({"$ref": "http://a.b/c"}, r"at #/\$ref: must be a place in this schema"),
    (TREE, "refers to itself; `depth` must say how often"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "must allow some value"),
    ({"enum": [1], "type": "string"}, "must allow some value"),
    (False, "must allow some value"),
    ({"type": "string", "pattern": "^a$", "minLength": 2}, "matches none"),
    ({"type": "number", "maximum": 1e12}, "bounds of numbers must be within"),
    ("{", "`schema` must be JSON"),
]


@pytest.mark.parametrize(("schema", "message"), NAMED)
def test_what_is_not_supported_is_refused_by_name_and_place(schema, message):
    with pytest.raises(ValueError, match=f"^JsonSchema: .*{message}"):
        jd.JsonSchema(schema, [bytes([b]) for b in range(256)])


@pytest.mark.parametrize("levels", [99, 101, 5000])
def test_deep_nesting_is_right_or_refused(levels):
    schema = {"type": "null"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema, "maxItems": 1, "minItems": 1}
    if levels == 99:
        text = "[" * levels + "null" + "]" * levels
        assert build(schema_node(schema)).matches(text.encode())
        return
    with pytest.raises(ValueError, match="JsonSchema: .*(nested|levels)"):
        jd.JsonSchema(schema, [bytes([b]) for b in range(256)])


class Address(pydantic.BaseModel):
    """Where someone lives."""

    street: str = pydantic.Field(max_length=9)
    number: int = pydantic.Field(gt=0, lt=500)


class Customer(pydantic.BaseModel):
    """Someone who buys."""

    name: str = pydantic.Field(pattern="^[A-Z][a-z]+$", max_length=7)
    address: Address
    score: float | None = None


def test_a_pydantic_model_is_its_schema():
    rng = random.Random(0)
    automaton = build(schema_node(Customer.model_json_schema()))
    for _ in range(60):
        Customer.model_validate_json(sample(automaton, rng, 50))


def test_a_response_format_is_a_link_or_nothing():
    tokens = [*(bytes([b]) for b in range(256)), None]
    make = jd.from_response_format
    assert make(None, tokens) is None
    assert make({"type": "text"}, tokens) is None
    inner = {"name": "x", "strict": True, "schema": {"type": "boolean"}}
    asked = {"type": "json_schema", "json_schema": inner}
    link = make(asked, tokens, eos_ids=256)
    row = np.asarray(jd.apply(link, np.zeros((1, 257), np.float32)))[0]
    assert set(np.flatnonzero(row == 0)) == {ord("t"), ord("f")}


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("json", TypeError, "`response_format` must be a dict"),
        ({}, ValueError, "must have the key 'type'"),
        ({"type": "json_object"}, ValueError, "must be 'text' or 'json_schema'"),
        ({"type": "json_schema"}, TypeError, "json_schema` must be a dict"),
        ({"type": "text", "x": 1}, ValueError, "has no key 'x'"),
    ],
)
def test_another_response_format_is_refused(given, kind, message):
    with pytest.raises(
        kind, match=re.escape("from_response_format: ") + f".*{message}"
    ):
        jd.from_response_format(given, [b"a"])
