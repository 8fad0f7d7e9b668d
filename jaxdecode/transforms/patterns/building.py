"""From a language to the smallest byte automaton of its texts.

A nondeterministic automaton is made first, part by part (Thompson, 1968), then the sets
of its states that can be reached (Rabin and Scott, 1959). An anchor is an edge that reads
nothing; what may follow it is a mode beside the state.
"""

import numpy as np

from jaxdecode.transforms.patterns.byte_automaton import (
    ByteAutomaton,
    minimised,
    trimmed,
)
from jaxdecode.transforms.patterns.charset import utf8
from jaxdecode.transforms.patterns.errors import (
    PARTS_MAX,
    STATES_MAX,
    WORK_MAX,
    too_large,
)
from jaxdecode.transforms.patterns.language import (
    Anchor,
    Built,
    Chars,
    Choices,
    Fields,
    Node,
    Repeat,
    Sequence_,
    Text,
)

# What a set's member may still read: anything, one last line end, nothing.
ANYTHING, LINE_END, NOTHING_MORE, MODES = 0, 1, 2, 3


def build(node: Node) -> ByteAutomaton:
    """Return the smallest automaton of a language.

    Raises:
      PatternError: if no text belongs to it, or it is too large.
    """
    parts = _Parts()
    start = parts.state()
    end = parts.add(node, start)
    return minimised(trimmed(*_Subsets(parts, end).run(start)))


class _Parts:
    """A nondeterministic automaton while it grows.

    Attributes:
      edges: of each state, (first byte, last byte, next state).
      jumps: of each state, (what must hold or None, next state); they read nothing.
    """

    def __init__(self):
        self.edges: list[list[tuple[int, int, int]]] = []
        self.jumps: list[list[tuple[str | None, int]]] = []

    def state(self) -> int:
        """Add a state."""
        if len(self.edges) >= PARTS_MAX:
            raise too_large("parts", PARTS_MAX)
        self.edges.append([])
        self.jumps.append([])
        return len(self.edges) - 1

    def add(self, node: Node, start: int) -> int:
        """Add a language that begins in a state; return the state in which it ends."""
        return _ADDERS[type(node)](self, node, start)

    def text(self, node: Text, start: int) -> int:
        for byte in node.data:
            following = self.state()
            self.edges[start].append((byte, byte, following))
            start = following
        return start

    def chars(self, node: Chars, start: int) -> int:
        end = self.state()
        tails: dict[tuple, int] = {(): end}

        def state_of(tail):
            if tail not in tails:
                following, tails[tail] = state_of(tail[1:]), self.state()
                self.edges[tails[tail]].append((*tail[0], following))
            return tails[tail]

        for ranges in utf8(node.chars):
            self.edges[start].append((*ranges[0], state_of(ranges[1:])))
        return end

    def sequence(self, node: Sequence_, start: int) -> int:
        for part in node.parts:
            start = self.add(part, start)
        return start

    def choices(self, node: Choices, start: int) -> int:
        end = self.state()
        for option in node.options:
            # A state of its own: what loops inside an option stays inside it.
            begin = self.state()
            self.jumps[start].append((None, begin))
            self.jumps[self.add(option, begin)].append((None, end))
        return end

    def repeat(self, node: Repeat, start: int) -> int:
        for _ in range(node.low):
            start = self.add(node.inner, start)
        end = self.state()
        if node.high is None:
            begin = self.state()
            self.jumps[start].append((None, begin))
            self.jumps[self.add(node.inner, begin)].append((None, begin))
            self.jumps[begin].append((None, end))
            return end
        for _ in range(node.high - node.low):
            self.jumps[start].append((None, end))
            begin = self.state()
            self.jumps[start].append((None, begin))
            start = self.add(node.inner, begin)
        self.jumps[start].append((None, end))
        return end

    def anchor(self, node: Anchor, start: int) -> int:
        end = self.state()
        self.jumps[start].append((node.kind, end))
        return end

    def fields(self, node: Fields, start: int) -> int:
        first: int | None = start  # nothing was written so far
        later: int | None = None  # something was
        for inner, required in node.items:
            begin, end = self.state(), self.state()
            if first is not None:
                self.jumps[first].append((None, begin))
            if later is not None:
                self.jumps[self.add(node.comma, later)].append((None, begin))
            self.jumps[self.add(inner, begin)].append((None, end))
            if not required and later is not None:
                self.jumps[later].append((None, end))
            first = None if required else first
            later = end
        end = self.state()
        later = later if later is None else self.add(node.tail, later)
        for last in (first, later):
            if last is not None:
                self.jumps[last].append((None, end))
        return end

    def built(self, node: Built, start: int) -> int:
        automaton, end = node.automaton, self.state()
        states = [self.state() for _ in automaton.accepts]
        self.jumps[start].append((None, states[0]))
        for state, row in zip(states, automaton.follows, strict=True):
            after = row[automaton.classes]
            turns = np.flatnonzero(np.diff(after)) + 1
            for first, last in zip([0, *turns], [*turns, 256], strict=True):
                if after[first] >= 0:
                    target = states[after[first]]
                    self.edges[state].append((int(first), int(last) - 1, target))
        for state in np.flatnonzero(automaton.accepts):
            self.jumps[states[state]].append((None, end))
        return end


_ADDERS = {
    Text: _Parts.text,
    Chars: _Parts.chars,
    Sequence_: _Parts.sequence,
    Choices: _Parts.choices,
    Repeat: _Parts.repeat,
    Anchor: _Parts.anchor,
    Fields: _Parts.fields,
    Built: _Parts.built,
}


class _Subsets:
    """Sets of states that can be reached; a member is a state times a mode."""

    def __init__(self, parts: _Parts, end: int):
        self.parts, self.end = parts, end
        cuts = {0, ord("\n"), ord("\n") + 1}
        cuts |= {cut for e in parts.edges for a, b, _ in e for cut in (a, b + 1)}
        self.cuts = sorted(cuts - {256})
        marks = np.zeros(256, np.int64)
        marks[self.cuts[1:]] = 1
        self.classes = np.cumsum(marks)
        number = self.classes.tolist()
        self.edges = [[(number[a], number[b], t) for a, b, t in e] for e in parts.edges]
        self.line_end = number[ord("\n")]
        self.known: dict[int, frozenset[int]] = {}
        self.work = 0

    def run(self, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return follows, classes and accepts of the automaton, state 0 the start."""
        first = self._keep(self._closure(start * MODES, at_start=True))
        numbers: dict[frozenset[int], int] = {first: 0}
        shortcuts: dict[frozenset[int], int] = {}
        sets, rows = [first], []
        for members in sets:
            row = [-1] * len(self.cuts)
            for column, targets in self._targets(members).items():
                raw = frozenset(targets)
                if raw not in shortcuts:
                    found = frozenset().union(*map(self._reached, raw))
                    shortcuts[raw] = numbers.setdefault(found, len(sets))
                    if shortcuts[raw] == len(sets):
                        sets.append(found)
                row[column] = shortcuts[raw]
            rows.append(row)
            if len(sets) > STATES_MAX:
                raise too_large("states", STATES_MAX)
        accepts = [any(m // MODES == self.end for m in members) for members in sets]
        return (
            np.asarray(rows, np.int32),
            self.classes.astype(np.uint8),
            np.asarray(accepts, np.bool_),
        )

    def _targets(self, members: frozenset[int]) -> dict[int, set[int]]:
        """Return the members after a byte of each class, before they jump."""
        found: dict[int, set[int]] = {}
        for member in members:
            state, mode = divmod(member, MODES)
            if mode == NOTHING_MORE:
                continue
            for first, last, target in self.edges[state]:
                self.work += 1
                if mode == LINE_END:
                    if first <= self.line_end <= last:
                        after = target * MODES + NOTHING_MORE
                        found.setdefault(self.line_end, set()).add(after)
                    continue
                for column in range(first, last + 1):
                    found.setdefault(column, set()).add(target * MODES)
        self.work += len(members) + len(found)
        if self.work > WORK_MAX:
            raise too_large("steps to be made deterministic", WORK_MAX)
        return found

    def _reached(self, member: int) -> frozenset[int]:
        if member not in self.known:
            self.known[member] = self._keep(self._closure(member, at_start=False))
        return self.known[member]

    def _closure(self, member: int, *, at_start: bool) -> set[int]:
        """Return a member with all that it reaches without reading."""
        found, todo = {member}, [member]
        for current in todo:
            state, mode = divmod(current, MODES)
            for condition, target in self.parts.jumps[state]:
                if condition == "start" and not at_start:
                    continue
                after = mode
                if condition == "end":
                    after = NOTHING_MORE
                elif condition == "line end":
                    after = max(mode, LINE_END)
                following = target * MODES + after
                if following not in found:
                    found.add(following)
                    todo.append(following)
        self.work += len(found)
        return found

    def _keep(self, members: set[int]) -> frozenset[int]:
        """Drop members that only jump: what they reach is in the set already."""
        return frozenset(
            m for m in members if self.edges[m // MODES] or m // MODES == self.end
        )
