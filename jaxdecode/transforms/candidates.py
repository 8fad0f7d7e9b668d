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

from jaxdecode.core.numerics import logprob_of, prefix_sum
from jaxdecode.core.pytree import pytree, static
from jaxdecode.transforms.context import Context


@pytree
class Candidates:
    """One row, best token first; dropped tokens have the value -inf and keep their slot.

    Attributes:
      values: float32 [K], descending when selected; dropped ones are -inf.
      ids: int32 [K], their token ids; ties stand in the order of their ids.
      log_z: float32, log of the sum of exp(value - best) over all tokens still allowed,
        the tail's included; only set for links that declare `uses_mass`.
      whole: float32 [V], the row in vocabulary order, scaled like `values`; the tail
        is read from it while the row is open.
      closed: bool, no token outside the window is allowed any more.
      broken: bool, the window could not hold what a truncation kept.
      least: float32, how many tokens a window must have at least to hold what was kept,
        as far as is known; 0 while the row is not broken.
      context: what the row knows of its past.
      state: the state of the link that reads it.
      measured: what that link's `measure` returns for all tokens still allowed.
      whole_log_z: float32, what `log_z` is while the row is open and unscaled, NaN where
        it is not known; None once the row was scaled, or if it is known of no row.
      holes: whether dropped candidates may stand before allowed ones. Static.
    """

    values: jax.Array
    ids: jax.Array
    log_z: jax.Array
    whole: jax.Array
    closed: jax.Array
    broken: jax.Array
    least: jax.Array
    context: Context
    state: Any = None
    measured: Any = None
    whole_log_z: Any = None
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
    def size(self) -> int:
        """K. In an open row all K are still allowed: nothing was dropped from it."""
        return self.values.shape[0]

    @property
    def count(self) -> jax.Array:
        """How many candidates of the window are allowed, int32."""
        return jnp.sum(self.alive.astype(jnp.int32))

    @property
    def best(self) -> jax.Array:
        """The largest value still allowed."""
        return jnp.max(self.values) if self.holes else self.values[0]

    @property
    def logprobs(self) -> jax.Array:
        """Log-probabilities [K] as the distribution stands; needs `uses_mass`."""
        return logprob_of(self.values, self.best, self.log_z)

    @property
    def probs(self) -> jax.Array:
        """Probabilities [K] as the distribution stands; needs `uses_mass`."""
        return jnp.exp(self.logprobs)


def in_place(row: jax.Array, context: Context) -> Candidates:
    """Return a whole row as closed candidates in vocabulary order, for a `Scale`."""
    return Candidates(
        values=row,
        ids=jnp.arange(row.shape[0], dtype=jnp.int32),
        log_z=jnp.float32(0.0),
        whole=row,
        closed=jnp.asarray(True),
        broken=jnp.asarray(False),
        least=jnp.float32(0.0),
        context=context,
        holes=True,
    )
