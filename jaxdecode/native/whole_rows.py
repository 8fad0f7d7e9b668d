"""What a draw asks of a whole row, by the kernels: its best, its order, and bounds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.varying import vary_alike, vary_like


def best_indices(row: jax.Array, maxima: jax.Array, chunk: int, k: int) -> jax.Array:
    """Return the indices of the k best entries, value descending, then index ascending.

    Equal values tie, +0 and -0 too.

    Args:
      row: float32 [V], without NaN; in a row with NaN some indices are arbitrary.
      maxima: float32 [ceil(V / chunk)], the largest entry of each chunk.
      chunk: entries of a chunk. Static.
      k: how many, in [1, V]. Static.

    Returns:
      int32 [k]; it has no slope.
    """
    row, maxima = jax.lax.stop_gradient((row, maxima))
    result = jax.ShapeDtypeStruct((k,), jnp.int32)
    call = jax.ffi.ffi_call("jaxdecode_best", result, vmap_method="expand_dims")
    given = vary_alike(row, maxima)
    return vary_like(call(*given, chunk=np.int64(chunk)), given)


@jax.custom_jvp
def sorted_row(row: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return all entries of a row and their indices, in the order of `best_indices`.

    Args:
      row: float32 [V].

    Returns:
      float32 [V], and int32 [V].
    """
    values = jax.ShapeDtypeStruct(row.shape, jnp.float32)
    order = jax.ShapeDtypeStruct(row.shape, jnp.int32)
    call = jax.ffi.ffi_call(
        "jaxdecode_sort", (values, order), vmap_method="expand_dims"
    )
    given = vary_alike(row)
    values, order = vary_like(tuple(call(*given)), given)
    return values, order


@sorted_row.defjvp
def _sorted_row_jvp(primals: Any, tangents: Any) -> Any:
    values, order = sorted_row(*primals)
    none = np.zeros(order.shape, jax.dtypes.float0)
    return (values, order), (tangents[0][order], none)


def bound_maxima(
    row: jax.Array, key: jax.Array, reached: jax.Array, chunk: int
) -> jax.Array:
    """Return what no entry of a chunk plus its Gumbel noise exceeds, float32 [C].

    The largest of `row + gumbel_bound_at(key, ids)` of each chunk but for rounding; or
    -inf where no entry plus its noise comes up to `reached`, which costs next to
    nothing. C is ceil(V / chunk).

    Args:
      row: float32 [V].
      key: uint32 [2], the words of a threefry key.
      reached: float32 (), -inf for every chunk's bound.
      chunk: entries of a chunk, at most 1024, a multiple of 16. Static.
    """
    row, reached = jax.lax.stop_gradient((row, reached))
    result = jax.ShapeDtypeStruct((-(-row.shape[0] // chunk),), jnp.float32)
    call = jax.ffi.ffi_call("jaxdecode_bounds", result, vmap_method="expand_dims")
    given = vary_alike(row, key, reached)
    return vary_like(call(*given, chunk=np.int64(chunk)), given)
