"""The tokens of one row that may still be drawn, best first: what truncations see.

A window holds the K best tokens of a row of V; with K = V it is the sorted row. Tokens
outside the window form its tail. While the row is open the tail is still allowed; once
a truncation has dropped it the row is closed, and the window is all there is. A row
that cuts somewhere inside its tail cannot be told from the window: it is broken, and
the caller takes a larger one.
"""

import jax
import jax.numpy as jnp

from jaxdecode.core.numerics import log_sum_exp, prefix_sum
from jaxdecode.core.pytree import pytree, replace
from jaxdecode.transforms.base import Context, Scale, Truncation


@pytree
class Candidates:
    """One row, best token first; dropped tokens have the value -inf and keep their slot.

    Attributes:
      values: float32 [K], descending when selected; dropped ones are -inf.
      ids: int32 [K], their token ids; ties stand in the order of their ids.
      log_z: float32, log of the sum of exp(values) over all tokens still allowed, the
        tail's included; only set for links that declare `uses_mass`.
      whole: float32 [V], the row in vocabulary order, scaled like `values`; it tells of
        the tail while the row is open.
      closed: bool, no token outside the window is allowed any more.
      broken: bool, the window could not hold what a truncation kept.
      context: what the row knows of its past.
      state: the state of the link that is looking.
    """

    values: jax.Array
    ids: jax.Array
    log_z: jax.Array
    whole: jax.Array
    closed: jax.Array
    broken: jax.Array
    context: Context
    state: object = ()

    @property
    def alive(self) -> jax.Array:
        """Which candidates are still allowed, bool [K]."""
        return self.values > -jnp.inf

    @property
    def rank(self) -> jax.Array:
        """How many allowed candidates stand before each, int32 [K]."""
        alive = self.alive.astype(jnp.int32)
        return prefix_sum(alive) - alive

    @property
    def count(self) -> jax.Array:
        """How many candidates of the window are allowed, int32."""
        return jnp.sum(self.alive.astype(jnp.int32))

    @property
    def best(self) -> jax.Array:
        """The largest value still allowed."""
        return jnp.max(self.values)

    @property
    def probs(self) -> jax.Array:
        """Probabilities [K] under the distribution as it stands; needs `uses_mass`."""
        return jnp.exp(self.values - self.log_z)


def narrow(link: Truncation, row: Candidates) -> Candidates:
    """Drop from one row what `link` does not keep, and say what became of the tail."""
    off = link.is_off()
    keep = row.alive & (link.keep(row) | (row.rank < link.min_keep))
    whole_in_window = link.complete(row) & (row.count >= link.min_keep)
    complete = row.closed | whole_in_window
    return replace(
        row,
        values=jnp.where(off | keep, row.values, -jnp.inf),
        closed=jnp.where(off, row.closed, complete),
        broken=row.broken | ~(off | complete),
    )


def rescale(link: Scale, row: Candidates) -> Candidates:
    """Change one row's values, in the window and in its tail, by the same rule."""
    return replace(
        row, values=link.scale(row.values, row), whole=link.scale(row.whole, row)
    )


def weigh(rows: Candidates) -> Candidates:
    """Set `log_z` of a batch of rows, reading whole rows only where a tail is left."""
    inside = log_sum_exp(rows.values)
    if rows.values.shape == rows.whole.shape:
        return replace(rows, log_z=inside)
    settled = rows.closed | rows.broken

    def with_tails():
        return jnp.where(settled, inside, log_sum_exp(rows.whole))

    log_z = jax.lax.cond(jnp.all(settled), lambda: inside, with_tails)
    return replace(rows, log_z=log_z)
