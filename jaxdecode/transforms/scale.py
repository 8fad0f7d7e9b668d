"""Links that change how peaked a row is, without changing the order of its tokens."""

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Scale


@pytree
class Temperature(Scale):
    """Divide the logits by a temperature.

    Below 1 the distribution becomes more peaked, above 1 flatter:
    `z <- z / t`. At 0 only the first maximum is left, which is greedy decoding for that
    row. Where z / t would leave float32's range, the row is first moved so that its
    maximum is 0, which is the same distribution.

    Args:
      t: the temperature, >= 0; 1 is neutral, 0 is greedy. Usual values: 0.5 to 1.2.

    Raises:
      ValueError: if `t` is negative, NaN or infinite.

    Reference: Ackley, Hinton and Sejnowski, A Learning Algorithm for Boltzmann
    Machines, 1985. Hugging Face refuses 0; llama.cpp takes it as greedy, as here.
    """

    t: Scalar = 1.0

    def __post_init__(self):
        check.within(self, t=self.t, low=0.0)

    def scale(self, values, row):
        divisor = jnp.where(self.t > 0, self.t, jnp.float32(1.0))
        overflow = jnp.isfinite(row.best) & ~jnp.isfinite(row.best / divisor)
        shifted = values - jnp.where(overflow, row.best, jnp.float32(0.0))
        is_first = _is_first_maximum(values, row.best)
        return jnp.where(
            self.t > 0, shifted / divisor, jnp.where(is_first, values, -jnp.inf)
        )

    def is_greedy(self):
        return self.t == 0


def _is_first_maximum(values: jax.Array, best: jax.Array) -> jax.Array:
    """Mark the first entry equal to `best`; ties stand in the order of their ids."""
    first = jnp.argmax(values == best)
    return jnp.arange(values.shape[0]) == first
