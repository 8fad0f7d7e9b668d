"""The tokens of a vocabulary as a tree of bytes, built once for all patterns."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Trie:
    """Node 0 is the root; nodes of a level have neighbouring numbers.

    Attributes:
      size: how many token ids there are, V.
      node: int32 [V], the node of each token; 0 for one that adds nothing to a text.
      levels: of each level below the root, the parent of each node and its last byte.
      digest: names the vocabulary.
    """

    size: int
    node: np.ndarray
    levels: tuple[tuple[np.ndarray, np.ndarray], ...]
    digest: str

    @property
    def is_text(self) -> np.ndarray:
        """Which tokens add something to a text, bool [V]."""
        return self.node > 0


@functools.lru_cache(maxsize=8)
def trie_of(tokens: tuple[bytes, ...]) -> Trie:
    """Return the trie of the bytes of each token; b"" is no text."""
    lengths = np.asarray([len(data) for data in tokens], np.int64)
    order = np.argsort(-lengths, kind="stable")  # those with one more byte are first
    longest = int(lengths.max(initial=0))
    letters = np.zeros((len(tokens), longest), np.uint8)
    for row, token in zip(letters, order.tolist(), strict=True):
        row[: lengths[token]] = np.frombuffer(tokens[token], np.uint8)
    node = np.zeros(len(tokens), np.int64)  # of the bytes read so far, longest first
    levels, count = [], 1
    for column in range(longest):
        going = int(np.searchsorted(-lengths[order], -column))
        keys = node[:going] * 256 + letters[:going, column]
        unique, inverse = np.unique(keys, return_inverse=True)
        levels.append((unique // 256, (unique % 256).astype(np.uint8)))
        node[:going] = count + inverse
        count += len(unique)
    of_token = np.zeros(len(tokens), np.int32)
    of_token[order] = node
    return Trie(len(tokens), of_token, tuple(levels), _digest(tokens))


def without(tokens: Sequence[bytes | None], ids: Iterable[int]) -> tuple[bytes, ...]:
    """Return the bytes of each token, b"" for those named and for None."""
    gone = set(ids)
    return tuple(b"" if i in gone else t or b"" for i, t in enumerate(tokens))


def _digest(tokens: Sequence[Any]) -> str:
    sizes = np.asarray([len(data) for data in tokens], np.int32).tobytes()
    return hashlib.sha256(sizes + b"".join(tokens)).hexdigest()
