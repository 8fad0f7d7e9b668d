"""A deterministic automaton over bytes, its smallest form, what two have in common."""

import dataclasses

import numpy as np

from jaxdecode.transforms.patterns.errors import STATES_MAX, PatternError, too_large

DEAD = -1
FAR = 2**31 - 2  # more bytes than any text has
ROUNDS_MAX = 300  # refinements; an automaton that needs more is left as it is


@dataclasses.dataclass(frozen=True, eq=False)
class ByteAutomaton:
    """State 0 is the start; every state can be reached and leads to an end.

    Attributes:
      follows: int32 [S, K], the state after a byte of each class, or `DEAD`.
      classes: uint8 [256], the class of each byte.
      accepts: bool [S], whether a text may end in a state.
    """

    follows: np.ndarray
    classes: np.ndarray
    accepts: np.ndarray

    def matches(self, data: bytes) -> bool:
        """Whether the automaton accepts some bytes."""
        state = 0
        for byte in data:
            state = int(self.follows[state, self.classes[byte]])
            if state == DEAD:
                return False
        return bool(self.accepts[state])


def trimmed(
    follows: np.ndarray, classes: np.ndarray, accepts: np.ndarray
) -> ByteAutomaton:
    """Return the automaton of some states without those that lead nowhere.

    Raises:
      PatternError: if no text is accepted.
    """
    alive = distances(follows, accepts) < FAR
    if not alive[0]:
        raise PatternError("the pattern must match some text, and it matches none.")
    number = np.full(len(follows) + 1, DEAD, np.int32)
    number[:-1][alive] = np.arange(alive.sum())
    return ByteAutomaton(number[follows[alive]], classes, accepts[alive])


def minimised(automaton: ByteAutomaton) -> ByteAutomaton:
    """Return the smallest automaton of the same texts (Moore, 1956).

    Blocks begin with how far a state is from an end, which equal states have in common;
    long chains, for which Moore needs a round a state, are then apart at once.
    """
    block = distances(automaton.follows, automaton.accepts)
    rng = np.random.default_rng(0)
    width = automaton.follows.shape[1]
    factors = rng.integers(1, 2**63, size=width + 1, dtype=np.uint64) | np.uint64(1)
    count = len(np.unique(block))
    for _ in range(ROUNDS_MAX):
        inside = np.append(block, -1)[automaton.follows].astype(np.uint64)
        mixed = (inside + np.uint64(2)) * factors[:-1]
        mixed ^= mixed >> np.uint64(29)
        hashed = mixed.sum(axis=1, dtype=np.uint64)
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + block.astype(np.uint64)
        _, block = np.unique(hashed, return_inverse=True)
        block = block.astype(np.int32)
        if block.max() + 1 == count:
            return _joined(automaton, block, count)
        count = int(block.max()) + 1
    return automaton


def _joined(automaton: ByteAutomaton, block: np.ndarray, count: int) -> ByteAutomaton:
    """Return the automaton of blocks, the start's first, if the blocks are sound."""
    follows = np.append(block, DEAD)[automaton.follows]
    first = np.zeros(count, np.int64)
    first[block[::-1]] = np.arange(len(block))[::-1]
    sound = (follows == follows[first][block]).all()
    sound &= (automaton.accepts == automaton.accepts[first][block]).all()
    if not sound:  # two hashes met, once in 2**64
        return automaton
    order = np.argsort(first)  # state 0 is in the first block
    number = np.full(count + 1, DEAD, np.int32)
    number[order] = np.arange(count, dtype=np.int32)
    first = first[order]
    merged = number[follows[first]]
    columns: dict[bytes, int] = {}
    names = [columns.setdefault(c.tobytes(), len(columns)) for c in merged.T]
    kept = np.unique(names, return_index=True)[1]
    classes = np.asarray(names, np.uint8)[automaton.classes]
    return ByteAutomaton(
        np.ascontiguousarray(merged[:, kept]), classes, automaton.accepts[first]
    )


def distances(follows: np.ndarray, accepts: np.ndarray) -> np.ndarray:
    """Return how many bytes each state is from the nearest end, int32 [S], or `FAR`."""
    sources, columns = np.nonzero(follows != DEAD)
    targets = follows[sources, columns]
    order = np.argsort(targets, kind="stable")
    sources = sources[order]
    starts = np.searchsorted(targets[order], np.arange(len(follows) + 1))
    distance = np.where(accepts, 0, FAR).astype(np.int32)
    edge = np.flatnonzero(accepts)
    step = 0
    while edge.size:
        step += 1
        before = sources[expand(starts[edge], starts[edge + 1])]
        edge = np.unique(before[distance[before] == FAR])
        distance[edge] = step
    return distance


def expand(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return all integers of some ranges [start, end), one range after the other."""
    sizes = ends - starts
    total = int(sizes.sum())
    shift = np.repeat(starts - np.append(0, np.cumsum(sizes)[:-1]), sizes)
    return np.arange(total) + shift


def intersection(one: ByteAutomaton, other: ByteAutomaton) -> ByteAutomaton:
    """Return the automaton of the texts that both accept.

    Raises:
      PatternError: if there is none, or the automaton is too large.
    """
    pairs = one.classes.astype(np.int32) * 256 + other.classes
    _, first, classes = np.unique(pairs, return_index=True, return_inverse=True)
    left = one.follows[:, one.classes[first]]
    right = other.follows[:, other.classes[first]]
    numbers, rows = {(0, 0): 0}, []
    todo = [(0, 0)]
    for a, b in todo:
        row = []
        for pair in zip(left[a].tolist(), right[b].tolist(), strict=True):
            if DEAD in pair:
                row.append(DEAD)
                continue
            if pair not in numbers:
                numbers[pair] = len(todo)
                todo.append(pair)
            row.append(numbers[pair])
        rows.append(row)
        if len(todo) > STATES_MAX:
            raise too_large("states", STATES_MAX)
    both = np.asarray(todo)
    accepts = one.accepts[both[:, 0]] & other.accepts[both[:, 1]]
    follows = np.asarray(rows, np.int32)
    return minimised(trimmed(follows, classes.astype(np.uint8), accepts))
