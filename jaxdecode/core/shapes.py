"""The axes, named once.

B rows of a batch, S new tokens of a call, T columns of a buffer, V vocabulary, L
layers, H query heads, K key/value heads or candidates, D head size, N beams or samples,
E ids of a small set.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray

# What public functions take, by name.
PerRow: TypeAlias = float | int | Sequence[float] | Array  # a number, or one per row
TokenIds: TypeAlias = int | Sequence[int] | Array  # one token id, or several
Biases: TypeAlias = Mapping[int, float] | Sequence[float] | Array  # by id, or [V]
TokenLists: TypeAlias = Sequence[Sequence[int]] | tuple[Array, Array] | Array
# Phrases for all prompts, or a list of phrases for each.
PhraseLists: TypeAlias = Sequence[Sequence[int]] | Sequence[Sequence[Sequence[int]]]
KeyLike: TypeAlias = jax.Array | int | Sequence[int] | Sequence[jax.Array]

# The field of a link: what a person gave, cast to an array in `__post_init__`.
Scalar: TypeAlias = Any

INT32_MAX = 2**31 - 1
NO_ID = INT32_MAX  # beyond any vocabulary: a scatter in drop mode ignores it
NO_LIMIT = INT32_MAX  # a window that nothing ever leaves


def bucket(size: int, *, low: int = 16, high: int | None = None) -> int:
    """Round a length up to the next bucket, so that near lengths share a program.

    Buckets are the powers of two from `low` on, cut at `high`.

    Args:
      size: the length wanted, at least 0.
      low: the smallest bucket.
      high: the largest size that makes sense, or None.

    Returns:
      The bucket, at least `size`.
    """
    rounded = max(low, 1 << max(size - 1, 0).bit_length())
    return rounded if high is None else max(size, min(rounded, high))
