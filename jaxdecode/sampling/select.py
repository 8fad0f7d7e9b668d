"""Choosing the candidates of a row: its K best tokens, or all of them, best first."""

import jax
import jax.numpy as jnp

from jaxdecode.sampling.order import sort, top_k
from jaxdecode.transforms import Candidates, Context


def select(
    row: jax.Array, context: Context, size: int, maxima: jax.Array | None = None
) -> Candidates:
    """Return the `size` best tokens of one row; with `size` = V, the sorted row.

    Args:
      row: float32 [V] without NaN.
      context: the row's past.
      size: K, at most V. Static.
      maxima: the row's chunk maxima, if they are known.

    Returns:
      Candidates; closed already if nothing allowed lies outside the window.
    """
    if size == row.shape[0]:
        (values, ids), closed = sort(row), jnp.asarray(True)
    else:
        values, ids = top_k(row, size, maxima)
        closed = values[-1] == -jnp.inf
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
    return Candidates(
        values=row,
        ids=jnp.arange(row.shape[0], dtype=jnp.int32),
        log_z=jnp.float32(0.0),
        whole=row,
        closed=jnp.asarray(True),
        broken=jnp.asarray(False),
        context=context,
    )


def unsort(candidates: Candidates) -> jax.Array:
    """Put sorted candidates of a whole row back in vocabulary order, float32 [V]."""
    return jnp.zeros_like(candidates.values).at[candidates.ids].set(candidates.values)
