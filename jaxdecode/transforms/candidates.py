"""The tokens of one row that may still be drawn, best first: what truncations see.

A window holds the K best tokens of a row of V; with K = V it is the sorted row. Tokens
outside the window form its tail. While the row is open the tail is still allowed; once
a truncation has dropped it the row is closed, and the window is all there is. A row
that cuts somewhere inside its tail cannot be told from the window: it is broken, and
the caller takes a larger one.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.numerics import prefix_sum
from jaxdecode.core.pytree import pytree, replace, static
from jaxdecode.transforms.base import Context, Scale, Truncation


@pytree
class Candidates:
    """One row, best token first; dropped tokens have the value -inf and keep their slot.

    Attributes:
      values: float32 [K], descending when selected; dropped ones are -inf.
      ids: int32 [K], their token ids; ties stand in the order of their ids.
      log_z: float32, log of the sum of exp(value - best) over all tokens still allowed,
        the tail's included; only set for links that declare `uses_mass`.
      whole: float32 [V], the row in vocabulary order, scaled like `values`; it tells of
        the tail while the row is open.
      closed: bool, no token outside the window is allowed any more.
      broken: bool, the window could not hold what a truncation kept.
      context: what the row knows of its past.
      state: the state of the link that is looking.
      measured: what that link's `measure` says of all tokens still allowed.
      whole_log_z: float32, what `log_z` is while the row is open and unscaled, NaN where
        it is not known; () once the row was scaled, or if it is known of no row.
      holes: whether dropped candidates may stand before allowed ones. Static.
    """

    values: jax.Array
    ids: jax.Array
    log_z: jax.Array
    whole: jax.Array
    closed: jax.Array
    broken: jax.Array
    context: Context
    state: Any = ()
    measured: Any = ()
    whole_log_z: Any = ()
    holes: bool = static(default=False)

    @property
    def alive(self) -> jax.Array:
        """Which candidates are still allowed, bool [K]."""
        return self.values > -jnp.inf

    @property
    def rank(self) -> jax.Array:
        """How many allowed candidates stand before each allowed one, int32 [K]."""
        if not self.holes:
            return jnp.arange(self.values.shape[0], dtype=jnp.int32)
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
    def logprobs(self) -> jax.Array:
        """Log-probabilities [K] as the distribution stands; needs `uses_mass`."""
        # Taking the best away first is exact where it matters; far from 0, adding it to
        # the normaliser would cost the digits of both.
        return (self.values - finite_or_zero(self.best)) - self.log_z

    @property
    def probs(self) -> jax.Array:
        """Probabilities [K] as the distribution stands; needs `uses_mass`."""
        return jnp.exp(self.logprobs)


def narrow(link: Truncation, row: Candidates) -> Candidates:
    """Drop from one row what `link` does not keep, and say what became of the tail."""
    off = link.is_idle(row)
    keep, whole_in_window = link.keep(row), link.complete(row)
    if link.keeps_argmax:
        keep |= row.rank < link.min_keep
        whole_in_window &= row.count >= link.min_keep
    complete = row.closed | whole_in_window
    values = link.reweigh(row) if link.reweighs else row.values
    kept = jnp.where(row.alive & keep, values, -jnp.inf)
    return replace(
        row,
        values=jnp.where(off, row.values, kept),
        closed=jnp.where(off, row.closed, complete),
        broken=row.broken | ~(off | complete),
        holes=row.holes or not link.keeps_prefix,
    )


def rescale(link: Scale, row: Candidates) -> Candidates:
    """Change one row's values, in the window and in its tail, by the same rule."""
    return replace(
        row,
        values=link.scale(row.values, row),
        whole=link.scale(row.whole, row),
        whole_log_z=(),
    )


def weigh(rows: Candidates) -> Candidates:
    """Set `log_z` of a batch of rows, reading whole rows only where a tail is left."""
    best = finite_or_zero(jnp.max(rows.values, axis=1))[:, None]
    inside = _log_sum(rows.values - best)
    if rows.values.shape == rows.whole.shape:
        return replace(rows, log_z=inside)
    settled = rows.closed | rows.broken
    if not isinstance(rows.whole_log_z, tuple):
        known = jnp.isfinite(rows.whole_log_z)
        inside = jnp.where(settled | ~known, inside, rows.whole_log_z)
        settled |= known

    def with_tails():
        return jnp.where(settled, inside, _log_sum(rows.whole - best))

    log_z = jax.lax.cond(jnp.all(settled), lambda: inside, with_tails)
    return replace(rows, log_z=log_z)


def finite_or_zero(value: jax.Array) -> jax.Array:
    """Return what may be taken away from a row: -inf - -inf would be NaN."""
    return jnp.where(jnp.isfinite(value), value, jnp.float32(0.0))


def _log_sum(values: jax.Array) -> jax.Array:
    return jnp.log(jnp.sum(jnp.exp(values), axis=-1))
