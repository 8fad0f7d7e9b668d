"""The axes, named once.

B rows of a batch, S new tokens of a call, T columns of a buffer, V vocabulary, L
layers, H query heads, K key/value heads or candidates, D head size, N beams or samples,
E ids of a small set.
"""

from typing import Any, TypeAlias

import jax
import numpy as np

Scalar: TypeAlias = Any  # a number, or one per row: checked and cast in __post_init__
Array: TypeAlias = jax.Array | np.ndarray


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
