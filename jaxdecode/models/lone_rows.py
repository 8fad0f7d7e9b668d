"""A lone row times a matrix: ways around what backends make of it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxdecode.core.platform import lowered_for

Product = Callable[[jax.Array, jax.Array], jax.Array]
# XLA cuts no product of more outputs, unless it has very many inputs.
OUTPUTS_FEW = 8192


def never_lone(
    product: Product,
    rows: jax.Array,
    other: jax.Array,
    *,
    axis: int,
    kinds: tuple[str, ...],
) -> jax.Array:
    """Return `product(rows, other)`; on some platforms a lone bfloat16 row is made two.

    On CPU a product with one row is a single-threaded routine that first converts the
    whole other side to float32: 39 ms against 3.1 for [1, 576] x [49152, 576]. On TPU it
    is a sum in the vector unit, at a third of the matrix unit's speed by XLA's estimate
    (llama-3.2-1b at batch 1: 15.3 million cycles a step, 2026-11).

    Args:
      product: has the rows of its result along `axis`, too.
      rows: the left side.
      other: the right side.
      axis: of the rows.
      kinds: the platforms where it is.
    """
    if rows.dtype != jnp.bfloat16 or rows.shape[axis] != 1:
        return product(rows, other)

    def doubled(rows, other):
        both = product(jnp.concatenate([rows, rows], axis), other)
        return lax.slice_in_dim(both, 0, 1, axis=axis)

    return lowered_for(kinds, doubled, product, rows, other)


def summed_by_threads(
    product: Product, rows: jax.Array, weight: jax.Array
) -> jax.Array:
    """Return `product(rows, weight)`; on CUDA a sum where a lone row has few outputs.

    To keep a GPU busy XLA cuts such a product along its inputs, and adds up the parts in
    a second kernel. Every output's own sum is one kernel, which XLA itself takes for
    matrices of up to ten million numbers. The numbers multiplied are the same.

    Under `vmap` there are several rows, which share the matrix in a product.

    Args:
      product: the product of rows with the transposed matrix. Static.
      rows: [B, I].
      weight: [O, I].

    Returns:
      float32 [B, O].
    """
    is_lone = rows.dtype == jnp.bfloat16 and rows.shape[0] == 1
    if is_lone and weight.shape[0] <= OUTPUTS_FEW:
        return _summed(product, rows, weight)
    return product(rows, weight)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _summed(product: Product, rows: jax.Array, weight: jax.Array) -> jax.Array:
    @jax.custom_batching.custom_vmap
    def summed(rows, weight):
        return lowered_for(("cuda",), _sums, product, rows, weight)

    @summed.def_vmap
    def _(size, batched, *given):
        axes = [0 if each else None for each in batched]
        return jax.vmap(product, axes, axis_size=size)(*given), True

    return summed(rows, weight)


@_summed.defjvp
def _slope(product, primals, tangents):
    return jax.jvp(product, primals, tangents)


def _sums(rows: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.sum(rows.astype(jnp.float32) * weight.astype(jnp.float32), axis=1)[None]
