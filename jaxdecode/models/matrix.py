"""A weight knows how to multiply: one kind of value for each way to store a matrix.

Matrices are [out, in] and contracted over the last axis of both sides, as checkpoints
store them. Rows come in and go out in float32; only the operands of a product are rounded
to the storage type, and products accumulate in float32. Another layout is another class.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from jaxdecode.cache import from_bits, to_bits
from jaxdecode.core.platform import lowered_for
from jaxdecode.core.pytree import pytree
from jaxdecode.models.joined import Part, alone, are_all_of_one
from jaxdecode.models.lone_rows import never_lone, summed_by_threads
from jaxdecode.models.quantize import join_rows, split_rows
from jaxdecode.native import Choice, Panels, look_up, panel_products, resolved

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "int8": jnp.int8}
CACHE_DTYPE = {"float32": "float32", "bfloat16": "bfloat16", "int8": "bfloat16"}


class Norm(Protocol):
    """What is done to the rows that a product reads: they are normalised, or gated."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return rows as the product multiplies them."""
        ...

    def folded(self) -> dict[str, Any] | None:
        """Return what makes `panel_products` do it; None where it cannot."""
        ...


class Matrix(Protocol):
    """A matrix [O, I] in some layout."""

    in_kernels: bool  # whether the kernels of `jaxdecode.native` read it

    def products(
        self, x: jax.Array, others: Sequence[Any], norm: Norm | None
    ) -> list[jax.Array]:
        """Return `norm(x) @ matrix.T` for this matrix and others of its layout.

        Args:
          x: float32 [..., I].
          others: matrices of the same class that read the same rows.
          norm: what is done to `x` first; None is nothing.

        Returns:
          float32 [..., O] each.
        """
        ...

    def rows(self, ids: jax.Array) -> jax.Array:
        """Return the rows at int32 `ids` [...], float32 [..., I]."""
        ...


@pytree
class Dense:
    """A float32 or bfloat16 matrix as it is.

    Args:
      weight: [O, I].
    """

    weight: jax.Array
    in_kernels = False

    def products(self, x, others, norm):
        x = x if norm is None else norm(x)
        return [matmul(x, matrix.weight) for matrix in (self, *others)]

    def rows(self, ids):
        if self.weight.dtype == jnp.bfloat16:
            return lowered_for(("cpu",), _rows_by_words, _rows, self.weight, ids)
        return _rows(self.weight, ids)


@pytree
class Int8:
    """An int8 matrix with a scale for each of its rows.

    Args:
      weight: int8 [O, I].
      scale: float32 [O].
    """

    weight: jax.Array
    scale: jax.Array
    in_kernels = False

    def products(self, x, others, norm):
        x = x if norm is None else norm(x)
        return [matmul(x, m.weight, m.scale) for m in (self, *others)]

    def rows(self, ids):
        found = self.weight[ids].astype(jnp.float32)
        return found * self.scale[ids][..., None]


@pytree
class Side:
    """A matrix that lies in one array with others that read the same rows.

    Args:
      part: which of them it is.
      scale: float32 [O] for int8 numbers, else None.
    """

    part: Part
    scale: jax.Array | None
    in_kernels = False

    def products(self, x, others, norm):
        x = x if norm is None else norm(x)
        matrices = (self, *others)
        if not are_all_of_one([m.part for m in matrices]):
            return [matmul(x, alone(m.part), m.scale) for m in matrices]
        scales = [m.scale for m in matrices if m.scale is not None]
        scale = jnp.concatenate(scales) if scales else None
        return self._split(matmul(x, self.part.array, scale))

    def products_in_parts(self, x, others, norm, parts):
        """Do `products` with results [parts, ..., O] that are still to be summed."""
        assert self.scale is None
        assert are_all_of_one([m.part for m in (self, *others)])
        x = x if norm is None else norm(x)
        return self._split(matmul_in_parts(x, self.part.array, parts))

    def _split(self, together):
        ends = list(itertools.accumulate(self.part.sizes))[:-1]
        return jnp.split(_not_merged(together), ends, axis=-1)

    def rows(self, ids):
        return matrix_of(alone(self.part), self.scale).rows(ids)


@pytree
class Panelled:
    """A matrix laid out for the kernels.

    Args:
      panels: its numbers.
      scale: float32 [O] for int8 numbers, else None.
    """

    panels: Panels | Choice
    scale: jax.Array | Choice | None
    in_kernels = True

    def products(self, x, others, norm):
        return self._products(x, (self, *others), norm)

    def product_onto(self, onto, x, norm):
        """Return `onto` [..., O] plus the product of `norm(x)`."""
        flat = onto.reshape(-1, onto.shape[-1])
        return self._products(x, (self,), norm, onto=flat)[0]

    def _products(self, x, matrices, norm, **more):
        folded = None if norm is None else norm.folded()
        if norm is not None and folded is None:
            x = norm(x)
        found = panel_products(
            x.reshape(-1, x.shape[-1]),
            [matrix.panels for matrix in matrices],
            [matrix.scale for matrix in matrices],
            **(folded or {}),
            **more,
        )
        return [y.reshape(*x.shape[:-1], -1) for y in found]

    def rows(self, ids):
        panels, scale = resolved(self.panels), resolved(self.scale)
        found = look_up(panels, ids).astype(jnp.float32)
        return found if scale is None else found * scale[ids][..., None]


def _not_merged(product: jax.Array) -> jax.Array:
    """Return a product that what follows is not merged into, on CUDA.

    Nor are its slopes merged into the product before: for slopes that are put together
    of several, XLA finds no tiles and compiles nothing (jaxlib 0.10.2, 2026-11).
    """
    return lowered_for(("cuda",), lax.optimization_barrier, _itself, product)


def _itself(product: jax.Array) -> jax.Array:
    return product


def _rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Return rows of a table [O, I] as float32."""
    return table[ids].astype(jnp.float32)


@jax.custom_jvp
def _rows_by_words(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Do the same by words: a bfloat16 gather converts the whole table on CPU.

    The barrier ties the table to the ids, else a loop keeps a copy of the words.
    """
    table, ids = lax.optimization_barrier((table, ids))
    return from_bits(to_bits(table)[ids]).astype(jnp.float32)


@_rows_by_words.defjvp
def _rows_slope(primals, tangents):
    """Slopes are added up as float32: a token may occur many times."""
    table, ids = primals
    return _rows_by_words(table, ids), tangents[0].astype(jnp.float32)[ids]


def matrix_of(weight: Any, scale: Any) -> Matrix:
    """Return the matrix of stored arrays, in the layout that they have."""
    if isinstance(weight, (Panels, Choice)):
        return Panelled(weight, scale)
    if isinstance(weight, Part):
        return Side(weight, scale)
    return Dense(weight) if scale is None else Int8(weight, scale)


def matmul(
    rows: jax.Array, weight: jax.Array, scale: jax.Array | None = None
) -> jax.Array:
    """Return `rows @ weight.T` in float32, `rows` rounded to the type of `weight`.

    Args:
      rows: float32 [..., I].
      weight: float32, bfloat16 or int8 [O, I].
      scale: float32 [O], by which an int8 weight's rows are multiplied.

    Returns:
      float32 [..., O].
    """
    flat = rows.reshape(-1, rows.shape[-1])
    if scale is None:
        given = flat.astype(weight.dtype), weight
        product = functools.partial(summed_by_threads, _dot)
        result = never_lone(product, *given, axis=0, kinds=("cpu", "tpu"))
    else:
        digits, row_scale = split_rows(flat)
        sums = _dot(digits, weight).astype(jnp.float32)
        result = join_rows(sums, row_scale) * scale[None, :]
    return result.reshape(*rows.shape[:-1], weight.shape[0])


def matmul_in_parts(rows: jax.Array, weight: jax.Array, parts: int) -> jax.Array:
    """Return products of parts of the inputs; their sum is that of `matmul`.

    Args:
      rows: float32 [..., I].
      weight: float32 or bfloat16 [O, I].
      parts: how many; it divides I.

    Returns:
      float32 [parts, ..., O].
    """
    outputs, inputs = weight.shape
    flat = rows.reshape(-1, parts, inputs // parts).astype(weight.dtype)
    result = lax.dot_general(
        flat,
        weight.reshape(outputs, parts, inputs // parts),
        (((2,), (2,)), ((1,), (1,))),
        precision=precision_for(weight),
        preferred_element_type=jnp.float32,
    )
    return result.reshape(parts, *rows.shape[:-1], outputs)


def _dot(rows: jax.Array, weight: jax.Array) -> jax.Array:
    exact = weight.dtype == jnp.int8
    return lax.dot_general(
        rows,
        weight,
        (((1,), (1,)), ((), ())),
        precision=precision_for(weight),
        preferred_element_type=jnp.int32 if exact else jnp.float32,
    )


def batched_matmul(
    rows_BKMX: jax.Array, stored: jax.Array, *, contract: int
) -> jax.Array:
    """Contract the last axis of the rows with axis `contract` of a cache array.

    Args:
      rows_BKMX: float32, rounded to the type of `stored`.
      stored: float32 or bfloat16 [B, K, T, D].
      contract: 3 for keys, 2 for values.

    Returns:
      float32 [B, K, M, T] or [B, K, M, D].
    """

    def product(rows, stored):
        return lax.dot_general(
            rows,
            stored,
            (((3,), (contract,)), ((0, 1), (0, 1))),
            precision=precision_for(stored),
            preferred_element_type=jnp.float32,
        )

    rows = rows_BKMX.astype(stored.dtype)
    return never_lone(product, rows, stored, axis=2, kinds=("cpu",))


def precision_for(operand: jax.Array) -> lax.Precision:
    """Return what a product must ask for: GPU and TPU round float32 by default."""
    exact = operand.dtype == jnp.float32
    return lax.Precision.HIGHEST if exact else lax.Precision.DEFAULT
