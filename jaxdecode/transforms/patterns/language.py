"""A set of texts as a tree: what every kind of pattern is turned into first.

The leaves are bytes, sets of characters and byte automata. `NEVER` is the set without a
text; the functions that join nodes pass it on, so that it is a leaf nowhere else.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from jaxdecode.transforms.patterns.byte_automaton import ByteAutomaton
from jaxdecode.transforms.patterns.charset import Charset


@dataclasses.dataclass(frozen=True)
class Text:
    """These bytes."""

    data: bytes


@dataclasses.dataclass(frozen=True)
class Chars:
    """One character of a set."""

    chars: Charset


@dataclasses.dataclass(frozen=True)
class Sequence_:
    """One node after the other."""

    parts: tuple["Node", ...]


@dataclasses.dataclass(frozen=True)
class Choices:
    """One of several nodes."""

    options: tuple["Node", ...]


@dataclasses.dataclass(frozen=True)
class Repeat:
    """A node, `low` to `high` times; None is without end."""

    inner: "Node"
    low: int
    high: int | None


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A place in the text: "start", "end", or "line end" (before a last \\n too)."""

    kind: str


@dataclasses.dataclass(frozen=True)
class Fields:
    """Nodes in order, some left out, `comma` between two, `tail` after any."""

    items: tuple[tuple["Node", bool], ...]  # a node, and whether it is required
    comma: "Node"
    tail: "Node"


@dataclasses.dataclass(frozen=True, eq=False)
class Built:
    """The texts that a byte automaton accepts."""

    automaton: ByteAutomaton


Node: TypeAlias = Text | Chars | Sequence_ | Choices | Repeat | Anchor | Fields | Built
NOTHING = Text(b"")
NEVER = Choices(())


def text(value: str) -> Node:
    """Return the node of one text."""
    return Text(value.encode())


def chars(value: Charset) -> Node:
    """Return the node of one character of a set."""
    return Chars(value) if value else NEVER


def sequence(*parts: Node) -> Node:
    """Return one node after the other."""
    if NEVER in parts:
        return NEVER
    return parts[0] if len(parts) == 1 else Sequence_(tuple(parts))


def choices(options: Iterable[Node]) -> Node:
    """Return one of several nodes."""
    kept = tuple(option for option in options if option != NEVER)
    return kept[0] if len(kept) == 1 else Choices(kept)


def repeat(inner: Node, low: int, high: int | None) -> Node:
    """Return a node some number of times; `high` None is without end."""
    if high is not None and high < low:
        return NEVER
    if inner == NEVER:
        return NEVER if low else NOTHING
    return NOTHING if high == 0 else Repeat(inner, low, high)


def optional(inner: Node) -> Node:
    """Return a node or nothing."""
    return repeat(inner, 0, 1)


def fields(items: Sequence[tuple[Node, bool]], comma: Node, tail: Node) -> Node:
    """Return nodes in order, of which those may be left out that are not required."""
    if any(node == NEVER and required for node, required in items):
        return NEVER
    kept = tuple(item for item in items if item[0] != NEVER)
    return Fields(kept, comma, tail) if kept else NOTHING
