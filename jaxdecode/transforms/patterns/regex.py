"""Regular expressions in Python's syntax, read by Python's own parser.

The texts are those of `re.fullmatch(pattern, text, re.ASCII)`. Groups that capture and
lazy quantifiers change nothing of that; what would (look-around, back-references, atomic
groups) is refused by name.
"""

import dataclasses
import re
from collections.abc import Mapping
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from jaxdecode.transforms.patterns import charset
from jaxdecode.transforms.patterns.charset import Charset
from jaxdecode.transforms.patterns.errors import PatternError
from jaxdecode.transforms.patterns.language import (
    Anchor,
    Node,
    chars,
    choices,
    repeat,
    sequence,
)

DIGITS = charset.of("0123456789")
WORDS = charset.union([(48, 57), (65, 90), (95, 95), (97, 122)])
SPACES = charset.of(" \t\n\r\f\v")
LINE_END = charset.of("\n")
OTHER_SPACES = (
    "\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
)

_NAMES = {
    ops.ASSERT: "look-ahead and look-behind, (?=...) or (?<=...)",
    ops.ASSERT_NOT: "negative look-around, (?!...) or (?<!...)",
    ops.GROUPREF: "a back-reference",
    ops.GROUPREF_EXISTS: "a conditional group, (?(1)...)",
    ops.ATOMIC_GROUP: "an atomic group, (?>...)",
    ops.POSSESSIVE_REPEAT: "a possessive quantifier, such as *+",
}
# Apart: the numbers of anchors are those of other constructs.
_ANCHOR_NAMES = {
    ops.AT_BOUNDARY: r"a word boundary, \b",
    ops.AT_NON_BOUNDARY: r"a word boundary, \B",
}


@dataclasses.dataclass(frozen=True)
class Dialect:
    """What `\\d`, `\\s`, `\\w` and `$` mean.

    Where dialects differ on a class, `sure` holds what is in it for all of them, `maybe`
    what is in it for one; a negated set leaves out the latter.
    """

    sure: Mapping[Any, Charset]
    maybe: Mapping[Any, Charset]
    line_ends: bool


def _classes(digits: Charset, words: Charset, spaces: Charset) -> dict[Any, Charset]:
    return {
        ops.CATEGORY_DIGIT: digits,
        ops.CATEGORY_NOT_DIGIT: charset.complement(digits),
        ops.CATEGORY_WORD: words,
        ops.CATEGORY_NOT_WORD: charset.complement(words),
        ops.CATEGORY_SPACE: spaces,
        ops.CATEGORY_NOT_SPACE: charset.complement(spaces),
    }


_ASCII = _classes(DIGITS, WORDS, SPACES)
_BEYOND = ((128, charset.LAST),)
_WIDE = _classes(
    charset.union([*DIGITS, *_BEYOND]),
    charset.union([*WORDS, *_BEYOND]),
    charset.union([*SPACES, *charset.of(OTHER_SPACES)]),
)
PYTHON = Dialect(sure=_ASCII, maybe=_ASCII, line_ends=True)
# JSON schemas name ECMA's, validators in Python use Python's with its Unicode classes.
SCHEMA = Dialect(
    sure={kind: charset.intersection(_ASCII[kind], _WIDE[kind]) for kind in _ASCII},
    maybe={kind: charset.union([*_ASCII[kind], *_WIDE[kind]]) for kind in _ASCII},
    line_ends=False,
)
_ANCHORS = {
    ops.AT_BEGINNING: "start",
    ops.AT_BEGINNING_STRING: "start",
    ops.AT_END: "line end",
    ops.AT_END_STRING: "end",
}


def parse(pattern: str, dialect: Dialect = PYTHON) -> Node:
    """Return the language of a regular expression.

    Raises:
      PatternError: if it is malformed, or has a part that is not supported.
    """
    try:
        tree = parser.parse(pattern, re.ASCII)
    except re.error as error:
        raise PatternError(
            f"the pattern must be a regular expression: {error}."
        ) from None
    except (ValueError, OverflowError) as error:  # flags that exclude each other
        raise PatternError(f"the pattern is not supported: {error}.") from None
    return _Reader(dialect).sequence(tree, tree.state.flags)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Turns the parser's tree into a language."""

    dialect: Dialect

    def sequence(self, tree: Any, flags: int) -> Node:
        return sequence(*(self.item(kind, value, flags) for kind, value in tree))

    def item(self, kind: Any, value: Any, flags: int) -> Node:
        if kind is ops.LITERAL:
            return chars(_cased(charset.union([(value, value)]), flags))
        if kind is ops.NOT_LITERAL:
            one = _cased(charset.union([(value, value)]), flags)
            return chars(charset.complement(one))
        if kind is ops.ANY:
            whole = flags & re.DOTALL
            return chars(charset.ALL if whole else charset.complement(LINE_END))
        if kind is ops.IN:
            return chars(self.set(value, flags))
        if kind is ops.BRANCH:
            return choices(self.sequence(option, flags) for option in value[1])
        if kind is ops.SUBPATTERN:
            _, added, removed, inner = value
            return self.sequence(inner, _scoped(flags, added, removed))
        if kind in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            low, high, inner = value
            last = None if high is ops.MAXREPEAT else int(high)
            return repeat(self.sequence(inner, flags), int(low), last)
        if kind is ops.AT:
            return self.anchor(value, flags)
        raise unsupported(_NAMES.get(kind, f"the construct {kind}"))

    def anchor(self, kind: Any, flags: int) -> Node:
        if kind in (ops.AT_BEGINNING, ops.AT_END) and flags & re.MULTILINE:
            raise unsupported("an anchor of lines, ^ or $ under the flag (?m)")
        if kind not in _ANCHORS:
            raise unsupported(_ANCHOR_NAMES.get(kind, f"the anchor {kind}"))
        where = _ANCHORS[kind]
        plain = where == "line end" and not self.dialect.line_ends
        return Anchor("end" if plain else where)

    def set(self, items: Any, flags: int) -> Charset:
        negated = any(kind is ops.NEGATE for kind, _ in items)
        classes = self.dialect.maybe if negated else self.dialect.sure
        ranges: list[tuple[int, int]] = []
        for kind, value in items:
            if kind is ops.LITERAL:
                ranges.append((value, value))
            elif kind is ops.RANGE:
                ranges.append(value)
            elif kind is ops.CATEGORY and value in classes:
                ranges.extend(classes[value])
            elif kind is not ops.NEGATE:
                raise unsupported(f"the construct {kind} in a set")
        found = _cased(charset.union(ranges), flags)
        return charset.complement(found) if negated else found


def _cased(chars: Charset, flags: int) -> Charset:
    return charset.either_case(chars) if flags & re.IGNORECASE else chars


def _scoped(flags: int, added: int, removed: int) -> int:
    if added & re.UNICODE:
        raise unsupported("the flag (?u); classes such as \\w are those of ASCII")
    return (flags | added) & ~removed


def unsupported(what: str) -> PatternError:
    """Return the error for a construct that is not supported."""
    return PatternError(f"the pattern must not have {what}, which is not supported.")
