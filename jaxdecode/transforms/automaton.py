"""An automaton over bytes, and the table that lets tokens drive it.

All byte strings are one automaton. A string may begin and end anywhere inside tokens,
but a step of decoding costs one lookup: the table says where each token leads from each
state. It is built on the host from the bytes of every token; nothing here knows a
tokenizer.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdecode.core.shapes import bucket

HIT = -(2**31)  # the sign bit of a table's entry: a string was completed
STATE = 2**31 - 1  # the other bits: the state itself
STATES_MAX = 2**15 - 1  # a table has a number for each state and each token
ENTRIES_MAX = 2**28  # 1 GiB
HEAD = 64  # bytes of a token that all states read together; few tokens have more


@dataclasses.dataclass(frozen=True)
class Automaton:
    """Finds all of several byte strings in one reading (Aho and Corasick, 1975).

    State i stands for the longest end of what was read that begins one of the strings;
    state 0 stands for none.

    Attributes:
      follows: int32 [M, 256], the state after each byte.
      depth: int32 [M], how many bytes each state stands for.
      found: int32 [M], length of the longest string that ends here; 0 if none does.
    """

    follows: np.ndarray
    depth: np.ndarray
    found: np.ndarray

    @staticmethod
    def of(patterns: Sequence[bytes], *, who: str = "Stops") -> "Automaton":
        """Build the automaton of some byte strings, none of them empty.

        Raises:
          ValueError: if they have more than 32767 bytes altogether; `who` names it.
        """
        children, depth, ends = _trie(patterns)
        if len(children) - 1 > STATES_MAX:
            raise ValueError(
                f"{who}: stop strings must have at most {STATES_MAX} bytes "
                f"altogether, got {len(children) - 1}."
            )
        follows = np.zeros((len(children), 256), np.int32)
        found = np.asarray(ends, np.int32)
        fail = [0] * len(children)
        for node in sorted(range(len(children)), key=depth.__getitem__):
            if node:
                follows[node] = follows[fail[node]]
                found[node] = found[node] or found[fail[node]]
            for byte, child in children[node].items():
                fail[child] = int(follows[node, byte]) if node else 0
                follows[node, byte] = child
        return Automaton(follows, np.asarray(depth, np.int32), found)

    def after(self, state: int, data: bytes) -> int:
        """Return the state after some bytes."""
        for byte in data:
            state = int(self.follows[state, byte])
        return state

    def first(self, state: int, data: bytes) -> tuple[int, int] | None:
        """Return where the first string ends in `data` and how long it is, or None."""
        for place, byte in enumerate(data):
            state = int(self.follows[state, byte])
            if self.found[state]:
                return place + 1, int(self.found[state])
        return None


def token_table(automaton: Automaton, token_bytes: Sequence[bytes]) -> np.ndarray:
    """Return where each token leads from each state, int32 [M, V].

    An entry is the state, with the sign bit set if a string was completed on the way. M
    is padded to a bucket, so that other strings are the same program.

    Raises:
      ValueError: if the table would be too large.
    """
    size = automaton.depth.size
    if bucket(size) * len(token_bytes) > ENTRIES_MAX:
        raise ValueError(
            f"Stops: stop strings of {size - 1} bytes and {len(token_bytes)} token ids "
            f"need a table of more than {ENTRIES_MAX} entries; give shorter strings."
        )
    hits = np.where(automaton.found > 0, np.int32(HIT), np.int32(0))
    steps = (automaton.follows | hits[automaton.follows]).reshape(-1)
    table = np.zeros((bucket(size), len(token_bytes)), np.int32)
    table[:size] = _after_heads(steps, size, [data[:HEAD] for data in token_bytes])
    for token, data in enumerate(token_bytes):
        if len(data) > HEAD:
            table[:size, token] = _after(steps, table[:size, token], data[HEAD:])
    return table


def _after_heads(steps: np.ndarray, size: int, heads: list[bytes]) -> np.ndarray:
    """Return the entry of each state and token, one byte of all tokens at a time."""
    lengths = np.asarray([len(head) for head in heads], np.int64)
    # Longest first: the tokens that still have a byte are then a slice.
    order = np.argsort(-lengths, kind="stable")
    shorter = -lengths[order]
    width = int(lengths.max(initial=0))
    letters = np.zeros((len(heads), width), np.uint8)
    for row, token in zip(letters, order, strict=True):
        row[: len(heads[token])] = np.frombuffer(heads[token], np.uint8)
    states = np.repeat(np.arange(size, dtype=np.int32)[:, None], order.size, axis=1)
    hit = np.zeros(states.shape, np.int32)
    for column in range(width):
        count = int(np.searchsorted(shorter, -column))  # longer than `column`
        entry = steps[states[:, :count] * 256 + letters[None, :count, column]]
        hit[:, :count] |= entry & np.int32(HIT)
        states[:, :count] = entry & np.int32(STATE)
    table = np.empty_like(states)
    table[:, order] = states | hit
    return table


def _after(steps: np.ndarray, entries: np.ndarray, rest: bytes) -> np.ndarray:
    """Return one token's entries after the bytes beyond its head.

    What is read last decides the state: soon all states are one, and a byte costs a
    look-up, however long the token is.
    """
    hit, states = entries & np.int32(HIT), entries & np.int32(STATE)
    for place, byte in enumerate(rest):
        if states.min() == states.max():
            hit |= _walk(steps.data, int(states[0]), rest[place:], states)
            break
        entry = steps[states * 256 + byte]
        hit |= entry & np.int32(HIT)
        states = entry & np.int32(STATE)
    return states | hit


def _walk(steps: memoryview, state: int, rest: bytes, states: np.ndarray) -> np.int32:
    """Read bytes from one state on: fill `states`, and return the bit of a hit."""
    hit = 0
    for byte in rest:
        entry = steps[state * 256 + byte]
        hit |= entry & HIT
        state = entry & STATE
    states[:] = state
    return np.int32(hit)


def _trie(
    patterns: Sequence[bytes],
) -> tuple[list[dict[int, int]], list[int], list[int]]:
    """Return each node's children by byte, its depth, and its length if a string ends."""
    children: list[dict[int, int]] = [{}]
    depth, ends = [0], [0]
    for pattern in patterns:
        node = 0
        for byte in pattern:
            if byte not in children[node]:
                children[node][byte] = len(children)
                children.append({})
                depth.append(depth[node] + 1)
                ends.append(0)
            node = children[node][byte]
        ends[node] = len(pattern)
    return children, depth, ends
