"""Choosing the candidates of a row: its K best tokens, or all of them, best first.

Every order here is (value descending, id ascending), so ties at any cut go to the lower
id, and a window is a prefix of the sorted row.
"""

import jax
import jax.numpy as jnp

from jaxdecode.core.pytree import replace
from jaxdecode.transforms import Candidates, Context

CHUNK = 128


def select(row: jax.Array, context: Context, size: int) -> Candidates:
    """Return the `size` best tokens of one row; with `size` = V, the sorted row.

    Args:
      row: float32 [V] without NaN.
      context: the row's past.
      size: K, at most V. Static.

    Returns:
      Candidates; closed already if nothing allowed lies outside the window.
    """
    values, ids = top_k(row, size)
    closed = jnp.asarray(True) if size == row.shape[0] else values[-1] == -jnp.inf
    return Candidates(
        values=values,
        ids=ids,
        log_z=jnp.float32(0.0),
        whole=row,
        closed=closed,
        broken=jnp.asarray(False),
        context=context,
    )


def in_place(row: jax.Array, context: Context) -> Candidates:
    """Return a whole row as closed candidates in vocabulary order, for a `Scale`."""
    ids = jnp.arange(row.shape[0], dtype=jnp.int32)
    unsorted = select(row[:1], context, 1)
    return replace(unsorted, values=row, ids=ids, whole=row, closed=jnp.asarray(True))


def unsort(candidates: Candidates) -> jax.Array:
    """Put sorted candidates of a whole row back in vocabulary order, float32 [V]."""
    return jnp.zeros_like(candidates.values).at[candidates.ids].set(candidates.values)


def top_k(row: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Return the k largest entries of a row and their indices, in the order above.

    Equal to `lax.top_k`, which scans the row serially on CPU. Here the maxima of
    chunks are found in one vectorised sweep, the k chunks with the best maxima are
    gathered in the order of their ids, and only those are searched: each of the k best
    entries lies in one of them, for otherwise k better entries would stand before it.

    Args:
      row: float32 [V].
      k: how many, at most V. Static.
    """
    size = row.shape[0]
    chunks = -(-size // CHUNK)
    if k * 2 >= chunks:
        return _top_k(row, k)
    padded = jnp.pad(row, (0, chunks * CHUNK - size), constant_values=-jnp.inf)
    table = padded.reshape(chunks, CHUNK)
    _, best = _top_k(jnp.max(table, axis=1), k)
    best = jnp.sort(best)
    values, at = _top_k(table[best].reshape(-1), k)
    return values, best[at // CHUNK] * CHUNK + at % CHUNK


def _top_k(values: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    # XLA knows a top-k by the slices of a sort. Readers that slice further hide them,
    # and the sort of everything stays: 51 ms a step at 32 rows (jaxlib 0.10.2, 2026-11).
    return jax.lax.optimization_barrier(jax.lax.top_k(values, k))


def arg_max(row: jax.Array) -> jax.Array:
    """Return the index of the first maximum of a row, by chunk maxima.

    Equal to `jnp.argmax`, which is serial on CPU.
    """
    size = row.shape[0]
    if size < 8 * CHUNK:
        return jnp.argmax(row).astype(jnp.int32)
    chunks = -(-size // CHUNK)
    padded = jnp.pad(row, (0, chunks * CHUNK - size), constant_values=-jnp.inf)
    table = padded.reshape(chunks, CHUNK)
    chunk = jnp.argmax(jnp.max(table, axis=1))
    return (chunk * CHUNK + jnp.argmax(table[chunk])).astype(jnp.int32)
