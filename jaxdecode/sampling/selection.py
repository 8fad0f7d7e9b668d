"""Choosing the candidates of a row: its K best tokens, or all of them, best first."""

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform
from jaxdecode.core.pytree import replace
from jaxdecode.sampling.order import sort, top_k
from jaxdecode.transforms import Candidates, Context
from jaxdecode.transforms.candidates import in_place


def select(
    row: jax.Array,
    context: Context,
    size: int,
    maxima: jax.Array | None = None,
    *,
    platform: Platform,
) -> Candidates:
    """Return the `size` best tokens of one row; with `size` = V, the sorted row.

    Args:
      row: float32 [V] without NaN.
      context: the row's past.
      size: K, at most V. Static.
      maxima: the row's chunk maxima, if they are known.
      platform: what the program is compiled for. Static.

    Returns:
      Candidates; closed already if nothing allowed lies outside the window.
    """
    if size == row.shape[0]:
        (values, ids), closed = sort(row, platform=platform), jnp.asarray(True)
    else:
        values, ids = top_k(row, size, maxima, platform=platform)
        closed = values[-1] == -jnp.inf
    whole = in_place(row, context)
    return replace(whole, values=values, ids=ids, closed=closed, holes=False)


def unsort(candidates: Candidates) -> jax.Array:
    """Put sorted candidates of a whole row back in vocabulary order, float32 [V]."""
    return jnp.zeros_like(candidates.values).at[candidates.ids].set(candidates.values)
