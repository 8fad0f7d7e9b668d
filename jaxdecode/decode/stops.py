"""Where a row stops: sequences of tokens, and strings however tokens cut them.

A string is looked for byte by byte, but a step of the loop costs one lookup: all strings
are one automaton over bytes, and a table says where each token leads from each of its
states. It is built on the host from the bytes of every token; nothing here knows a
tokenizer. Only what was generated is looked at.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Array, bucket
from jaxdecode.transforms import Chain, MinNewTokens
from jaxdecode.transforms.vocabulary import NO_ID

_HIT = -(2**15)  # the sign bit of a table's entry
STATE = 2**15 - 1  # the other bits: the state itself


@pytree
class Stops:
    """What ends a row, as arrays; built by `Stops.of`, shared by all rows.

    Attributes:
      sequences: int32 [N, L], right-aligned and padded on the left.
      table: int16 [M, V], the state after each token, negative if a string was completed
        in it; None where there are no strings.
    """

    sequences: Array
    table: Array | None

    @staticmethod
    def of(
        sequences: Any = (),
        strings: Sequence[str | bytes] = (),
        token_bytes: Sequence[bytes] | None = None,
    ) -> "Stops":
        """Return stops for some token sequences and strings.

        Args:
          sequences: lists of token ids.
          strings: texts, or their UTF-8 bytes.
          token_bytes: the bytes of each token of the vocabulary, V of them, as
            `Tokenizer.token_bytes` gives them; only needed for strings.

        Raises:
          TypeError: if an id is not an integer, or a string is no text.
          ValueError: for an empty sequence or string, or strings without `token_bytes`.
        """
        padded = _padded(checked_sequences("Stops", "sequences", sequences))
        patterns = [_as_bytes("Stops", text) for text in strings]
        if not patterns:
            return Stops(padded, None)
        if token_bytes is None:
            raise ValueError(
                "Stops: `token_bytes` must be given where there are strings, got None."
            )
        table = token_table(Automaton.of(patterns), token_bytes)
        return Stops(padded, table)

    def start(self, rows: int) -> Any:
        """Return the automaton's state in front of each row's first new token."""
        return () if self.table is None else jnp.zeros((rows,), jnp.int32)

    def advance(self, cursor, token, tokens, length, begin) -> tuple[Any, jax.Array]:
        """Return one row's new state, and whether its last token completed a stop.

        Args:
          cursor: int32, what `start` or the last call returned.
          token: int32, the token that was drawn.
          tokens: int32 [S], the row with that token in.
          length: int32, how many tokens it has.
          begin: int32, where its generated part begins.
        """
        width = self.sequences.shape[1]
        columns = length - width + jnp.arange(width)
        inside = jnp.clip(columns, 0, tokens.shape[0] - 1)
        recent = jnp.where(columns >= begin, tokens[inside], -1)
        fits = (self.sequences == recent[None, :]) | (self.sequences == NO_ID)
        hit = jnp.any(jnp.all(fits, axis=1) & (self.sequences[:, -1] != NO_ID))
        if self.table is None:
            return cursor, hit
        entry = jnp.asarray(self.table)[cursor, token].astype(jnp.int32)
        return entry & STATE, hit | (entry < 0)


@dataclasses.dataclass(frozen=True)
class Automaton:
    """Finds all of several byte strings in one reading (Aho and Corasick, 1975).

    State i stands for the longest end of what was read that begins one of the strings;
    state 0 for none.

    Attributes:
      follows: int32 [M, 256], the state after each byte.
      depth: int32 [M], how many bytes each state stands for.
      found: int32 [M], length of the longest string that ends here; 0 if none does.
    """

    follows: np.ndarray
    depth: np.ndarray
    found: np.ndarray

    @staticmethod
    def of(patterns: Sequence[bytes]) -> "Automaton":
        """Build the automaton of some byte strings, none of them empty.

        Raises:
          ValueError: if they have more than 32767 bytes altogether.
        """
        children, depth, ends = _trie(patterns)
        if len(children) - 1 > STATE:
            raise ValueError(
                f"Stops: stop strings must have at most {STATE} bytes "
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

    def first(self, state: int, data: bytes) -> tuple[int, int] | None:
        """Return where the first string ends in `data` and how long it is, or None."""
        for place, byte in enumerate(data):
            state = int(self.follows[state, byte])
            if self.found[state]:
                return place + 1, int(self.found[state])
        return None


def token_table(automaton: Automaton, token_bytes: Sequence[bytes]) -> np.ndarray:
    """Return where each token leads from each state, int16 [M, V].

    M is padded to a bucket, so that other strings are the same program. Tokens are taken
    longest first: those that still have a byte are then a slice.
    """
    size = automaton.depth.size
    lengths = np.asarray([len(data) for data in token_bytes], np.int64)
    order = np.argsort(-lengths, kind="stable")
    width = int(lengths.max(initial=0))
    letters = np.zeros((len(token_bytes), width), np.uint8)
    for row, token in zip(letters, order, strict=True):
        data = token_bytes[token]
        row[: len(data)] = np.frombuffer(data, np.uint8)
    hits = np.where(automaton.found > 0, _HIT, 0)[automaton.follows]
    steps = (automaton.follows | hits).astype(np.int16).reshape(-1)
    states = np.repeat(np.arange(size, dtype=np.int32)[:, None], order.size, axis=1)
    hit = np.zeros(states.shape, np.int16)
    for column in range(width):
        count = int(np.searchsorted(-lengths[order], -column))  # longer than `column`
        entry = steps[states[:, :count] * 256 + letters[None, :count, column]]
        hit[:, :count] |= entry & np.int16(_HIT)
        states[:, :count] = entry & np.int16(STATE)
    table = np.zeros((bucket(size), order.size), np.int16)
    table[:size, order] = states.astype(np.int16) | hit
    return table


def as_stops(who: str, stop: Any, vocab_size: int) -> Stops | None:
    """Return checked stops for whatever may be passed as `stop`; None is none at all.

    Raises:
      TypeError: if it is neither lists of token ids nor `Stops`.
      ValueError: for an empty sequence, an id beyond the vocabulary, or strings that
        were prepared for another vocabulary.
    """
    if stop is None:
        return None
    if not isinstance(stop, Stops):
        stop = Stops(_padded(checked_sequences(who, "stop", stop)), None)
    if not check.is_traced(stop.sequences):
        ids = np.asarray(stop.sequences)
        check.in_vocabulary(who, "stop", ids[ids != NO_ID], vocab_size)
    if stop.table is not None and stop.table.shape[1] != vocab_size:
        raise ValueError(
            f"{who}: `stop` must be made for the model's {vocab_size} token ids, "
            f"got {stop.table.shape[1]}."
        )
    return stop


def patience(chain: Chain) -> Any:
    """Return how many tokens must come first, by the chain's `MinNewTokens`, [R] or 0.

    That link bans the eos ids until then; a stop that is completed until then is passed
    over. So neither is ever among the first `n` tokens.
    """
    waits: Any = 0
    for link in chain.links:
        if isinstance(link, MinNewTokens):
            waits = jnp.maximum(waits, link.n)
    return waits


def _trie(patterns: Sequence[bytes]):
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


def _padded(sequences: list[list[int]]) -> np.ndarray:
    """Return sequences as int32 [N, L], right-aligned, in sizes of 8, 16, 32 ..."""
    width = bucket(max((len(row) for row in sequences), default=1), low=8)
    table = np.full((bucket(len(sequences), low=8), width), NO_ID, np.int32)
    for filled, row in zip(table, sequences, strict=False):
        filled[width - len(row) :] = row
    return table


def checked_sequences(who: str, name: str, sequences: Any) -> list[list[int]]:
    """Return sequences of token ids as lists, refusing what is none.

    Raises:
      TypeError: if they are not lists of integers.
      ValueError: for an empty sequence or a negative id.
    """
    kinds = (Sequence, np.ndarray)
    if isinstance(sequences, (str, bytes)) or not isinstance(sequences, kinds):
        raise TypeError(
            f"{who}: `{name}` must be lists of token ids, got {check.short(sequences)}."
        )
    for ids in sequences:
        if isinstance(ids, (str, bytes)) or not isinstance(ids, kinds):
            raise TypeError(
                f"{who}: `{name}` must be lists of token ids, [[...], ...], got "
                f"{check.short(ids)} in it."
            )
        if not len(ids):
            raise ValueError(
                f"{who}: `{name}` must not hold an empty sequence, got []."
            )
    return [[check.token_id(who, name, i) for i in ids] for ids in sequences]


def _as_bytes(who: str, text: Any) -> bytes:
    if not isinstance(text, (str, bytes)):
        raise TypeError(
            f"{who}: `strings` must be texts, got {check.short(text)} "
            f"({type(text).__name__})."
        )
    data = text.encode() if isinstance(text, str) else text
    if not data:
        raise ValueError(f"{who}: `strings` must not hold an empty text, got {text!r}.")
    return data
