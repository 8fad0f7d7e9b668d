"""What a draw asks of a whole row, by the kernels: statistics, order, noise."""

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


def survey(rows: jax.Array, chunk: int) -> tuple[jax.Array, jax.Array]:
    """Return what a draw asks of whole rows, read once.

    Args:
      rows: float32 [..., V].
      chunk: entries of a chunk, at most 1024, a multiple of 16. Static.

    Returns:
      The largest entry of each chunk, NaN left out, float32 [..., ceil(V / chunk)]; and
      the logarithm of the sum of exp(value - best) of each row, float32 [...], which is
      not finite for a row with NaN, with +inf, or without anything but -inf. They have
      no slope.
    """
    rows = jax.lax.stop_gradient(rows)
    results = _surveyed(rows, chunk)
    call = jax.ffi.ffi_call("jaxdecode_survey", results, vmap_method="expand_dims")
    given = vary_alike(rows)
    maxima, log_z = call(*given, chunk=np.int64(chunk))
    return vary_like((maxima, log_z), given)


def put_and_survey(
    rows: jax.Array, ids: jax.Array, values: jax.Array, chunk: int
) -> tuple[jax.Array, ...]:
    """Return rows with other values at a few ids, and what a draw asks of both.

    The rows are changed where they lie if nothing reads them afterwards.

    Args:
      rows: float32 [..., V].
      ids: int32 [..., N]; those outside the row are left out. Of equal ids the last one
        counts.
      values: float32 [..., N].
      chunk: as in `survey`. Static.

    Returns:
      The new rows; the largest entry and the logarithm of the old ones, float32 [...];
      and the results of `survey` for the new ones. They have no slope.
    """
    given = vary_alike(*jax.lax.stop_gradient((rows, ids, values)))
    number = jax.ShapeDtypeStruct(rows.shape[:-1], jnp.float32)
    changed = jax.ShapeDtypeStruct(rows.shape, jnp.float32)
    results = (changed, number, number, *_surveyed(rows, chunk))
    call = jax.ffi.ffi_call(
        "jaxdecode_put",
        results,
        vmap_method="broadcast_all",  # or rows that are alike could not be changed
        input_output_aliases={0: 0},
    )
    return vary_like(tuple(call(*given, chunk=np.int64(chunk))), given)


def _surveyed(rows: jax.Array, chunk: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    *batch, size = rows.shape
    shapes = (*batch, -(-size // chunk)), tuple(batch)
    return tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)


def noisy_candidates(
    row: jax.Array,
    maxima: jax.Array,
    key: jax.Array,
    start: jax.Array,
    reached: jax.Array,
    *,
    chunk: int,
    k: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return which entries may have the best score: an entry plus its Gumbel noise.

    The first entry from `start` on with the best score of all of them is among the
    results, or lies at or behind the place that is returned, or does not exceed
    `reached`. In nearly all rows there is one result and the place is V.

    Args:
      row: float32 [V]; NaN is never a result.
      maxima: float32 [ceil(V / chunk)], the largest entry of each chunk.
      key: uint32 [2], the words of a threefry key.
      start: int32 (), where to begin.
      reached: float32 (), a score that the result has to exceed; -inf at first.
      chunk: as in `survey`. Static.
      k: how many results at most, at most 64. Static.

    Returns:
      int32 [k], ascending, V in places without a result; `noise_bits` of them; and
      int32 (), the first entry for which there was no room, or V.
    """
    given = vary_alike(*jax.lax.stop_gradient((row, maxima, key, start, reached)))
    results = [
        jax.ShapeDtypeStruct((k,), jnp.int32),
        jax.ShapeDtypeStruct((k,), jnp.uint32),
        jax.ShapeDtypeStruct((), jnp.int32),
    ]
    call = jax.ffi.ffi_call("jaxdecode_search", results, vmap_method="expand_dims")
    ids, bits, place = call(*given, chunk=np.int64(chunk))
    return vary_like((ids, bits, place), given)


def noise_bits(key: jax.Array, ids: jax.Array) -> jax.Array:
    """Return the bits that the noise of token ids is made of.

    Equal to `jax.random.bits(key, (V,))[ids]` for a threefry key in its partitionable
    form. One operation in place of the hundred of the hash.

    Args:
      key: uint32 [2], the words of the key.
      ids: int32 [K].

    Returns:
      uint32 [K].
    """
    result = jax.ShapeDtypeStruct(ids.shape, jnp.uint32)
    call = jax.ffi.ffi_call("jaxdecode_hash", result, vmap_method="expand_dims")
    given = vary_alike(key, ids)
    return vary_like(call(*given), given)
