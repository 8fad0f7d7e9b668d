"""The order of the tokens of a row: value descending, then id ascending.

Two ways to the same order: the k best of a row, found by the maxima of its chunks, and
the whole row sorted. Equal values tie, +0 and -0 too, and ties go to the lower id, so
the k best are a prefix of the sorted row. Where there are kernels they do both.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.platform import Platform
from jaxdecode.native import best_indices, current_platform, sorted_row
from jaxdecode.sampling.network import network_sort
from jaxdecode.sampling.stats import CHUNK, LARGE, chunk_maxima, chunked, has_kernels

_MAGNITUDE = np.uint32(0x7FFFFFFF)


def top_k(
    row: jax.Array,
    k: int,
    maxima: jax.Array | None = None,
    *,
    platform: Platform | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return the k largest entries of a row and their indices, in the order above.

    `lax.top_k` scans the row serially on CPU. Here the k chunks with the best maxima
    are gathered in the order of their ids, and only those are searched, by smaller
    chunks again: each of the k best entries lies in one of them, for otherwise k better
    entries would stand before it.

    Args:
      row: float32 [V].
      k: how many, at most V. Static.
      maxima: `chunk_maxima(row)` if they are known.
      platform: what the program is compiled for; None is this process's. Static.
    """
    platform = current_platform() if platform is None else platform
    if not platform.by_chunks:
        return _top_k(row, k)
    if has_kernels(row.shape[0], platform):
        maxima = chunk_maxima(row) if maxima is None else maxima
        ids = best_indices(row, maxima, CHUNK, k)
        return _positive_zero(row[ids]), ids
    if k * 2 >= -(-row.shape[0] // CHUNK):
        return _search(row, k)
    maxima = chunk_maxima(row) if maxima is None else maxima
    return _among_best(chunked(row), maxima, k)


def sort(
    row: jax.Array, *, platform: Platform | None = None
) -> tuple[jax.Array, jax.Array]:
    """Return all entries of a row and their indices, in the order above.

    Value and id become one 64-bit integer, because XLA on CPU sorts plain integers with
    a compiled comparison, and anything else by calling back for each: 5.1 against 29 ms
    for 131072 entries (jaxlib 0.10.2). On TPU and GPU a network of exchanges sorts.
    """
    platform = current_platform() if platform is None else platform
    if has_kernels(row.shape[0], platform):
        return sorted_row(row)
    if not platform.sorts_words:
        return _sort_by_network(row)
    fixed = jax.lax.stop_gradient(row)
    ids = jnp.arange(row.shape[0], dtype=jnp.uint32)
    pairs = jnp.stack([ids, _descending(fixed)], axis=-1)
    with jax.enable_x64(True):
        words = jax.lax.bitcast_convert_type(pairs, jnp.uint64)
        # No two are equal, so any sort is stable; the stable one is faster.
        words = jax.lax.sort(words, is_stable=True)
        pairs = jax.lax.bitcast_convert_type(words, jnp.uint32)
    order = pairs[:, 0].astype(jnp.int32)
    return row[order], order


def arg_max(row: jax.Array, maxima: jax.Array | None = None) -> jax.Array:
    """Return the index of the first maximum of a row, by chunk maxima.

    Equal to `jnp.argmax`, which is serial on CPU.
    """
    if row.shape[0] < LARGE:
        return jnp.argmax(row).astype(jnp.int32)
    chunk = jnp.argmax(chunk_maxima(row) if maxima is None else maxima)
    return (chunk * CHUNK + jnp.argmax(chunked(row)[chunk])).astype(jnp.int32)


def _search(row: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Return the k best by chunks of the size for which least is searched in all."""
    size = 2 ** int(math.log2(math.sqrt(row.shape[0] / k)))
    if size < 8:
        return _top_k(row, k)
    table = chunked(row, size)
    return _among_best(table, jnp.max(table, axis=1), k)


def _among_best(table: jax.Array, maxima: jax.Array, k: int):
    """Return the k best of a row cut into chunks [C, size], by the chunks' maxima."""
    size = table.shape[1]
    best = jnp.sort(_top_k(maxima, k)[1])
    values, at = _search(table[best].reshape(-1), k)
    return values, best[at // size] * size + at % size


def _top_k(values: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    values = _positive_zero(values)  # XLA's has -0 below +0
    # XLA knows a top-k by the slices of a sort. Readers that slice further hide them,
    # and the sort of everything stays: 51 ms a step at 32 rows (jaxlib 0.10.2, 2026-11).
    best, indices = jax.lax.top_k(values, k)
    barrier = jax.lax.optimization_barrier
    # One barrier over both ends the compiler in a program for several devices (XLA of
    # jaxlib 0.10.2).
    return barrier(best), barrier(indices)


def _descending(row: jax.Array) -> jax.Array:
    """Turn floats into uint32 that ascend where the floats descend."""
    bits = jax.lax.bitcast_convert_type(_positive_zero(row), jnp.uint32)
    return jnp.where(bits > _MAGNITUDE, bits, bits ^ _MAGNITUDE)


def _ascending(words: jax.Array) -> jax.Array:
    """Return the floats of which `_descending` made uint32."""
    bits = jnp.where(words > _MAGNITUDE, words, words ^ _MAGNITUDE)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


@jax.custom_jvp
def _sort_by_network(row: jax.Array) -> tuple[jax.Array, jax.Array]:
    words, order = network_sort(_descending(row))
    return _ascending(words), order  # read back: a gather of a whole row is slow there


@_sort_by_network.defjvp
def _sort_slope(primals: Any, tangents: Any) -> Any:
    values, order = _sort_by_network(*primals)
    none = np.zeros(order.shape, jax.dtypes.float0)
    return (values, order), (tangents[0][order], none)


def _positive_zero(values: jax.Array) -> jax.Array:
    return jnp.where(values == 0, jnp.float32(0.0), values)
