"""How stored tensors become ours: rules that a family's record chooses from.

A rule takes the config, our name without `.weight` or `.bias`, relative to the block,
and our shape. It returns the shape the stored tensor must have and the conversion.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from jaxdecode.models.config import ModelConfig

Shape: TypeAlias = tuple[int, ...]
Convert: TypeAlias = Callable[[np.ndarray], np.ndarray]
Rule: TypeAlias = Callable[[ModelConfig, str, Shape], tuple[Shape, Convert]]

PARTS = ("attention.q", "attention.k", "attention.v")


def as_stored(config: ModelConfig, name: str, shape: Shape) -> tuple[Shape, Convert]:
    """Take every tensor as it is."""
    return shape, _same


def paired(config: ModelConfig, name: str, shape: Shape) -> tuple[Shape, Convert]:
    """Undo the interleaving of q and k: rotary planes are stored as pairs of rows."""
    heads = {"attention.q": config.num_heads, "attention.k": config.kv_heads}
    return shape, _Unpair(heads[name]) if name in heads else _same


def one_of_three(config: ModelConfig, name: str, shape: Shape) -> tuple[Shape, Convert]:
    """Take q, k and v out of one tensor, in which they are one below the other."""
    if name not in PARTS:
        return shape, _same
    return (3 * shape[0], *shape[1:]), _Third(PARTS.index(name))


def conv1d(config: ModelConfig, name: str, shape: Shape) -> tuple[Shape, Convert]:
    """Transpose the matrices of blocks, stored [in, out]; q, k and v are one tensor."""
    stored, convert = one_of_three(config, name, shape)
    if "." not in name or len(shape) == 1:
        return stored, convert
    return stored[::-1], lambda array: convert(array.T)


def plus_one(config: ModelConfig, name: str, shape: Shape) -> tuple[Shape, Convert]:
    """Add 1 to the weights of norms, which are stored as what they differ from 1."""
    return shape, _add_one if name.endswith("norm") else _same


def fused_rows(config: ModelConfig, name: str, shape: Shape) -> tuple[Shape, Convert]:
    """Take q, k and v out of one tensor, gate and up out of another one."""
    q, kv = config.num_heads * config.head_size, config.kv_heads * config.head_size
    places = {
        "attention.q": (0, q + 2 * kv),
        "attention.k": (q, q + 2 * kv),
        "attention.v": (q + kv, q + 2 * kv),
        "mlp.gate": (0, 2 * config.mlp_width),
        "mlp.up": (config.mlp_width, 2 * config.mlp_width),
    }
    if name not in places:
        return shape, _same
    start, total = places[name]
    return (total, *shape[1:]), _Rows(start, shape[0])


def _add_one(array: np.ndarray) -> np.ndarray:
    return array + np.ones((), array.dtype)


@dataclass(frozen=True)
class _Rows:
    """Some rows of a matrix (or entries of a bias) that holds several."""

    start: int
    count: int

    def __call__(self, array: np.ndarray) -> np.ndarray:
        return array[self.start : self.start + self.count]


def _same(array: np.ndarray) -> np.ndarray:
    return array


@dataclass(frozen=True)
class _Third:
    """One of three matrices (or biases) stored one below the other."""

    index: int

    def __call__(self, array: np.ndarray) -> np.ndarray:
        size = array.shape[0] // 3
        return array[self.index * size : (self.index + 1) * size]


@dataclass(frozen=True)
class _Unpair:
    """Bring the rows of each head from pairs (0, 0', 1, 1', ...) back to halves."""

    heads: int

    def __call__(self, array: np.ndarray) -> np.ndarray:
        pairs = array.reshape(self.heads, -1, 2, *array.shape[1:])
        return np.swapaxes(pairs, 1, 2).reshape(array.shape)
