"""int8 products: weights by output channel, activations by row, sums in int32.

A weight row keeps one float32 scale, `w = q * scale`, so an output channel's error does
not depend on its neighbours. Where it is known what a matrix is given, the errors of a
row's columns are made to cancel for the mean input. Activations are split at run time
into two int8 digits with a scale of their own row. The product is exact in int32 and
scaled at the end.

References: Dettmers et al., LLM.int8(), 2022, arXiv 2208.07339 (vector-wise scales);
Frantar et al., GPTQ, 2022, arXiv 2210.17323 (errors passed on to later columns).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = 127.0
DAMPING = 0.01  # of the mean energy, added to every channel's variance
COLUMNS, ROWS = 32, 512  # of a matrix that are rounded at once: they fit a cache


@dataclass(frozen=True)
class Inputs:
    """What is known of the vectors that a matrix is multiplied by.

    Args:
      mean: float [I], by channel.
      square: mean of the squares, float [I].
    """

    mean: np.ndarray
    square: np.ndarray

    def over(self, factors: np.ndarray) -> "Inputs":
        """Return what is known once each channel is divided by its factor."""
        return Inputs(self.mean / factors, self.square / factors**2)


def split_rows(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return rows [M, I] as two int8 digits, [2 M, I], and their scale [M, 1].

    `row = (first + second / 254) * scale`, the first digits above the second. One digit
    alone loses what stands beside a row's outliers: KL 0.044 against 0.005 on the
    default model (2026-11-23). A lone row becomes two, which a product needs anyway.
    """
    largest = jnp.max(jnp.abs(rows), axis=-1, keepdims=True)
    scale = jnp.maximum(largest, jnp.float32(1e-30)) / jnp.float32(LEVELS)
    first = jnp.round(rows / scale)
    second = jnp.round((rows / scale - first) * jnp.float32(2 * LEVELS))
    return jnp.concatenate([first, second]).astype(jnp.int8), scale


def join_rows(sums: jax.Array, scale: jax.Array) -> jax.Array:
    """Return what rows gave from what their digits gave: [2 M, O] -> [M, O]."""
    first, second = jnp.split(sums, 2)
    return (first + second / jnp.float32(2 * LEVELS)) * scale


def quantize_matrix(
    weight: np.ndarray, inputs: Inputs | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix [O, I] as int8 and the scale of each row, float32 [O].

    Args:
      weight: the matrix.
      inputs: what it is given; None rounds each entry to the nearest level.
    """
    weight = np.asarray(weight, np.float32)
    scale = np.abs(weight).max(axis=1) / np.float32(LEVELS)
    scale = np.maximum(scale, np.float32(1e-30))
    if inputs is None:
        return np.rint(weight / scale[:, None]).astype(np.int8), scale
    levels = np.empty(weight.shape, np.int8)
    plan = _plan(inputs)
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        levels[rows] = _round_in_turn(weight[rows] / scale[rows, None], plan)
    return levels, scale


@dataclass(frozen=True)
class _Plan:
    """In which order columns are rounded, and what those to come make good.

    Args:
      order: int [I].
      mean: float32 [I], of the inputs, in that order.
      share: float32 [I], how much a column changes per error before its block.
    """

    order: np.ndarray
    mean: np.ndarray
    share: np.ndarray


def _plan(inputs: Inputs) -> _Plan:
    """Take inputs for their mean plus independent noise; then the plan has a closed form.

    With `a = sum (q - w) mean` over the columns done, changes d of the others add least
    to `(a + sum d mean)^2 + sum d^2 variance` at

        d[i] = -a (mean[i] / variance[i]) / (1 + sum mean^2 / variance).
    """
    square = np.asarray(inputs.square, np.float64)
    size = np.sqrt(max(square.mean(), 1e-30))
    mean = np.asarray(inputs.mean, np.float64) / size
    variance = np.maximum(square / size**2 - mean**2, 0.0) + DAMPING
    order = np.argsort(-(mean**2), kind="stable")
    mean, variance = mean[order], variance[order]
    left = np.cumsum((mean**2 / variance)[::-1])[::-1]  # in this column and all later
    left = np.repeat(left[::COLUMNS], COLUMNS)[: len(mean)]
    share = mean / variance / (1 + left)
    return _Plan(order, mean.astype(np.float32), share.astype(np.float32))


def _round_in_turn(levels: np.ndarray, plan: _Plan) -> np.ndarray:
    """Round [O, I] in units of a level, block by block, errors passed on."""
    columns = levels.T[plan.order]
    rounded = np.empty(columns.shape, np.int8)
    error = np.zeros(len(levels), np.float32)
    for start in range(0, len(columns), COLUMNS):
        block = slice(start, start + COLUMNS)
        nearest = columns[block] - plan.share[block, None] * error
        np.rint(nearest, out=nearest)
        np.clip(nearest, -LEVELS, LEVELS, out=nearest)
        rounded[block] = nearest
        error += plan.mean[block] @ (nearest - columns[block])
    return rounded[np.argsort(plan.order)].T


class QuantizedParams(Mapping[str, Any]):
    """Parameters of which each matrix is an int8 `weight` and a float32 `scale`.

    Args:
      params: floating-point arrays by name; a matrix is quantised when it is read.
      inputs: what is known of a matrix's inputs, by its name.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        inputs: Callable[[str], Inputs | None] = lambda name: None,
    ):
        self._params = params
        self._inputs = inputs
        self._last: tuple[str, Any] = ("", None)

    def __getitem__(self, name: str) -> Any:
        # A matrix and its scale are asked for one after the other: keep the last pair.
        matrix = f"{name.removesuffix('.scale')}.weight" if _is_scale(name) else name
        if self._last[0] != matrix:
            value = self._params[matrix]
            if np.ndim(value) < 2:
                return value
            shape = value.shape  # of several matrices, one below the other
            rows = np.asarray(value).reshape(-1, shape[-1])
            levels, scale = quantize_matrix(rows, self._inputs(matrix))
            pair = (levels.reshape(shape), scale.reshape(shape[:-1]))
            self._last = (matrix, pair)
        return self._last[1][int(_is_scale(name))]

    def __iter__(self) -> Iterator[str]:
        for name, value in self._params.items():
            if np.ndim(value) >= 2:
                yield f"{name.removesuffix('.weight')}.scale"
            yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_scale(name: str) -> bool:
    return name.endswith(".scale")
