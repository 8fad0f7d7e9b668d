"""Strings as JSON writes them: lengths, patterns, formats.

A string without a pattern may hold any character; what JSON wants escaped is written in
its short form, such as \\n, and never as \\uXXXX. Under a pattern each character has one
form, so that a pattern and a length can be intersected.
"""

import dataclasses

from jaxdecode.transforms.patterns import charset
from jaxdecode.transforms.patterns.building import build
from jaxdecode.transforms.patterns.byte_automaton import intersection
from jaxdecode.transforms.patterns.charset import Charset
from jaxdecode.transforms.patterns.language import (
    Built,
    Chars,
    Choices,
    Node,
    Repeat,
    Sequence_,
    chars,
    choices,
    repeat,
    sequence,
    text,
)
from jaxdecode.transforms.patterns.regex import SCHEMA, parse

_SHORT = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_CONTROL: Charset = ((0, 31),)
_PLAIN = charset.complement(charset.union([*_CONTROL, *charset.of('"\\')]))
_YEAR = r"(\d{3}[1-9]|\d{2}[1-9]\d|\d[1-9]\d{2}|[1-9]\d{3})"  # 0001 to 9999
_DATE = (
    r"(\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)"
    r"|02-(0[1-9]|1\d|2[0-8]))"
    r"|(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
)
_HOUR = r"([01]\d|2[0-3])"
_TIME = rf"{_HOUR}:[0-5]\d:[0-5]\d(\.\d{{1,6}})?(Z|[+-]{_HOUR}:[0-5]\d)"
_LABEL = r"[A-Za-z0-9]+(-+[A-Za-z0-9]+)*"
_WORD = r"[A-Za-z0-9_+-]+"
_HEX = "[0-9a-fA-F]"
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": rf"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",
    "email": rf"{_WORD}(\.{_WORD})*@{_LABEL}(\.{_LABEL})+",
}


def string(
    *,
    low: int = 0,
    high: int | None = None,
    pattern: str | None = None,
    format: str | None = None,
) -> Node:
    """Return the strings that keep all of some rules, with their quotes.

    Args:
      low: least number of characters.
      high: largest number; None is without end.
      pattern: a regular expression that is found somewhere in the string.
      format: a key of `FORMATS`.

    Raises:
      PatternError: for a pattern that is not supported, or no such string.
    """
    rules = []
    if pattern is not None:
        anything = repeat(_encoded(charset.ALL), 0, None)
        found = _as_json(parse(pattern, SCHEMA))
        rules.append(sequence(anything, found, anything))
    if format is not None:
        rules.append(parse(FORMATS[format]))
        if format.startswith("date"):
            rules.append(parse(f"{_YEAR}[ -~]*"))
    if not rules:
        return _quoted(repeat(_FREE, low, high))
    if low or high is not None:
        rules.append(repeat(_encoded(charset.ALL), low, high))
    automata = [build(rule) for rule in rules]
    common = automata[0]
    for other in automata[1:]:
        common = intersection(common, other)
    return _quoted(Built(common))


def _quoted(content: Node) -> Node:
    return sequence(text('"'), content, text('"'))


def _as_json(node: Node) -> Node:
    """Return the language in which each character stands as in a JSON string."""
    if isinstance(node, Chars):
        return _encoded(node.chars)
    if isinstance(node, Sequence_):
        return sequence(*map(_as_json, node.parts))
    if isinstance(node, Choices):
        return choices(map(_as_json, node.options))
    if isinstance(node, Repeat):
        return dataclasses.replace(node, inner=_as_json(node.inner))
    return node  # an anchor


def _encoded(given: Charset) -> Node:
    """Return one character of a set, in its one form.

    Control characters without a short form are left out where anything else is meant.
    """
    options = [chars(charset.intersection(given, _PLAIN))]
    for letter, short in _SHORT.items():
        if charset.intersection(given, charset.of(letter)):
            options.append(text("\\" + short))
    if not any(option != Choices(()) for option in options):
        for first, last in charset.intersection(given, _CONTROL):
            options += [text(f"\\u{code:04x}") for code in range(first, last + 1)]
    return choices(options)


_FREE = choices([chars(_PLAIN), sequence(text("\\"), chars(charset.of('"\\/bfnrt')))])
