"""Links that change how peaked a row is, without changing the order of its tokens."""

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.numerics import finite_or_zero
from jaxdecode.core.pytree import assign, pytree
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Scale
from jaxdecode.transforms.candidates import Candidates
from jaxdecode.transforms.cutoffs import entropy


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
        return _divide(values, row, self.t)

    def is_greedy(self):
        return self.t == 0

    def is_off(self):
        return self.t == 1


@pytree
class DynamicTemperature(Scale):
    """Divide the logits by a temperature that grows with the row's entropy.

    `t = low + (high - low) * (H / log(n)) ** exponent`, H being the entropy and n the
    number of tokens still allowed; `z <- z / t`. A row with one token left stays as it
    is; where t is 0, only the first maximum is left.

    Args:
      low: the temperature of a certain row, >= 0; 1 is neutral. Usual values: 0 to 1.
      high: the temperature of a flat row, >= 0; 1 is neutral. Usual values: 1 to 2.
      exponent: how late the temperature grows, > 0. Usual value: 1.

    Raises:
      ValueError: if a value is out of range, NaN or infinite.

    Reference: kalomaze, Dynamic Temperature Sampling, 2023; low and high as in
    text-generation-webui, which llama.cpp writes as t - range and t + range.
    """

    low: Scalar = 1.0
    high: Scalar = 1.0
    exponent: Scalar = 1.0

    def __post_init__(self):
        who = type(self).__name__
        assign(self, "low", check.real(who, "low", self.low, low=0.0))
        assign(self, "high", check.real(who, "high", self.high, low=0.0))
        check.within(self, exponent=self.exponent, low=0.0, low_open=True)

    def measure(self, values):
        return entropy(values), jnp.sum(values > -jnp.inf)

    def scale(self, values, row):
        found, count = row.measured
        most = jnp.log(jnp.maximum(count, 2).astype(jnp.float32))
        share = jnp.clip(found / most, 0.0, 1.0) ** self.exponent
        t = self.low + (self.high - self.low) * share
        return jnp.where(count < 2, values, _divide(values, row, t))


@pytree
class Quadratic(Scale):
    """Bend the logits down, the more the further they are from the best (smoothing).

    With `d = z - max(z)`:
    `z <- max(z) - (3 - curve) / 2 * factor * d**2 + (curve - 1) / 2 * factor * d**3`.

    Args:
      factor: how steep, >= 0; 0 is off (neutral). Usual values: 0.1 to 1.
      curve: how much of it is cubic, in [1, 3], where the order of the tokens stays;
        1 is purely quadratic. Usual values: 1 to 2.

    Raises:
      ValueError: if a value is out of range or NaN.

    Reference: kalomaze, quadratic sampling ("smoothing factor"), text-generation-webui,
    2024. That one takes the maximum over the whole batch; here each row has its own.
    """

    factor: Scalar = 0.0
    curve: Scalar = 1.0

    def __post_init__(self):
        check.within(self, factor=self.factor, low=0.0)
        check.within(self, curve=self.curve, low=1.0, high=3.0)

    def scale(self, values, row):
        best = finite_or_zero(row.best)
        banned = values == -jnp.inf
        d = jnp.where(banned, 0.0, values - best)  # before squaring: slopes stay finite
        square = (3 - self.curve) / 2 * self.factor
        cube = (self.curve - 1) / 2 * self.factor
        bent = best - (square - cube * d) * d * d  # each term is 0 or negative
        bent = jnp.where(d == 0, best, bent)
        return jnp.where((self.factor == 0) | banned, values, bent)


def _divide(values: jax.Array, row: Candidates, t: jax.Array) -> jax.Array:
    """Return values / t, in float32's range; at t = 0 only the first maximum."""
    best, divisor = row.best, jnp.where(t > 0, t, jnp.float32(1.0))
    overflow = jnp.isfinite(best) & ~jnp.isfinite(best / divisor)
    # Banned tokens stand aside: the slope of -inf / t would be NaN.
    banned = values == -jnp.inf
    moved = values - jnp.where(overflow, best, jnp.float32(0.0))
    divided = jnp.where(banned, 0.0, moved) / divisor
    is_first = _is_first_maximum(values, row)
    kept = jnp.where(t > 0, divided, jnp.where(is_first, values, -jnp.inf))
    return jnp.where(banned, -jnp.inf, kept)


def _is_first_maximum(values: jax.Array, row: Candidates) -> jax.Array:
    """Mark the first entry equal to the best; ties stand in the order of their ids."""
    # As float32, exact for any vocabulary: reductions of integers are slow on CPU.
    place = jnp.arange(values.shape[0], dtype=jnp.float32)
    if values is row.values and not row.holes:  # best first: nothing to search
        return place == 0
    return place == jnp.min(jnp.where(values == row.best, place, jnp.inf))
