"""Exclude top choices: now and then, drop all good tokens but the least likely one."""

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Truncation

COIN = 0x787463  # folded into the step key, so that the coin is not the draw's noise


@pytree
class XTC(Truncation):
    """With some probability, drop the most likely tokens above a threshold.

    A coin is thrown for each token that is drawn. If it falls so, and two or more tokens
    have a probability of at least `threshold`, all of these but the least likely one are
    dropped; everything below the threshold stays. It acts on the whole row where no
    truncation stands before it, which must then be sorted.

    The coin is `uniform(fold_in(step_key, 0x787463)) < probability`.

    Args:
      threshold: the probability that makes a token a top choice, in [0, 1]; above 0.5
        there cannot be two, so it is off. Usual values: 0.05 to 0.2.
      probability: how often it acts, in [0, 1]; 0 is neutral. Usual values: 0.3 to 1.
      min_keep: it does nothing where fewer than so many tokens would stay, >= 1.

    Raises:
      ValueError: if a value is outside [0, 1] or NaN, or `min_keep` below 1.

    Reference: p-e-w, Exclude Top Choices (XTC), text-generation-webui pull request 6335,
    2024. llama.cpp acts unless u > probability; here and there if u < probability.
    """

    stochastic = True
    uses_mass = True
    keeps_argmax = False

    threshold: Scalar = 0.1
    probability: Scalar = 0.0

    def __post_init__(self):
        check.within(self, threshold=self.threshold, low=0.0, high=1.0)
        check.within(self, probability=self.probability, low=0.0, high=1.0)
        super().__post_init__()

    def keep(self, row):
        is_top = self._tops(row)
        return ~(is_top & (row.rank < jnp.sum(is_top) - 1))

    def is_idle(self, row):
        tops = jnp.sum(self._tops(row))
        # In the window of an open row at least as many stay as are counted here.
        too_few = row.closed & (row.count - (tops - 1) < self.min_keep)
        misses = _coin(row.context.key) >= self.probability
        return self.is_off() | misses | (tops < 2) | too_few

    def is_off(self):
        return (self.probability <= 0) | (self.threshold > 0.5)

    def _tops(self, row):
        return row.alive & (row.logprobs >= jnp.log(self.threshold))


def _coin(key: jax.Array) -> jax.Array:
    """Return the uniform number of a step key, the same alone and beside neighbours."""

    def throw(key):
        return jax.random.uniform(jax.random.fold_in(key, COIN))

    if str(jax.random.key_impl(key)) == "threefry2x32":
        return throw(key)
    # Under `vmap` the bits of an "rbg" key depend on its neighbours.
    return jax.custom_batching.sequential_vmap(throw)(key)
