"""Links that look at the shape of a row: how far the best stand out, where it is flat."""

import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.numerics import prefix_sum
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Truncation


@pytree
class TopNSigma(Truncation):
    """Keep tokens whose logit is within `n` standard deviations of the best.

    Keeps `{ i : z[i] >= max(z) - n * sigma }`, sigma being the population standard
    deviation of all allowed logits. A temperature before or after it changes nothing.

    Args:
      n: how many deviations, >= 0; 0 keeps all (neutral). Usual values: 1 to 2.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `n` is negative, NaN or infinite, or `min_keep` below 1.

    Reference: Tang et al., Top-n-sigma: Not All Logits Are You Need, 2024, arXiv
    2411.07641. 0 keeps all as in llama.cpp, where it would otherwise keep only the best.
    """

    keeps_prefix = True

    n: Scalar = 0.0

    def __post_init__(self):
        check.within(self, n=self.n, low=0.0)
        super().__post_init__()

    def measure(self, values):
        # In units of the largest magnitude, or the squares would leave float32's range;
        # not beyond 2**125, where XLA's reciprocal is flushed to 0 (jaxlib 0.10.2, CPU).
        allowed = values > -jnp.inf
        unit = jnp.max(jnp.where(allowed, jnp.abs(values), 0.0))
        unit = jnp.clip(unit, 2.0**-100, 2.0**125)
        scaled = jnp.where(allowed, values / unit, 0.0)
        count = jnp.maximum(jnp.sum(allowed.astype(jnp.float32)), 1.0)
        off_mean = jnp.where(allowed, scaled - jnp.sum(scaled) / count, 0.0)
        return unit, jnp.sqrt(jnp.sum(off_mean**2) / count)

    def keep(self, row):
        scaled, least = self._scaled(row)
        return scaled >= least

    def complete(self, row):
        scaled, least = self._scaled(row)
        return scaled[-1] < least

    def is_off(self):
        return self.n == 0

    def _scaled(self, row):
        unit, sigma = row.measured
        return row.values / unit, row.best / unit - self.n * sigma


@pytree
class TailFree(Truncation):
    """Cut the tail where the sorted probabilities become flat.

    With p sorted downwards, `d[i] = |p[i] - 2 p[i+1] + p[i+2]|`, normalised to sum 1: the
    first token stays, token i + 1 stays while `sum(d[:i+1]) <= z`, the last is dropped.
    Fewer than three tokens, and rows without any curvature, stay as they are. It needs
    all of a row's probabilities: put a truncation before it, or every row is sorted.

    Args:
      z: how much of the curvature to keep, in [0, 1]; 1 keeps all (neutral). Usual
        values: 0.9 to 0.97.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `z` is outside [0, 1] or NaN, or `min_keep` below 1.

    Reference: Bricken, Tail Free Sampling, 2019; the offset of one is KoboldAI's and
    text-generation-webui's.
    """

    uses_mass = True
    keeps_prefix = True

    z: Scalar = 1.0

    def __post_init__(self):
        check.within(self, z=self.z, low=0.0, high=1.0)
        super().__post_init__()

    def keep(self, row):
        # Holes are no tokens: close ranks first, and look ranks up afterwards.
        size, count = row.values.shape[0], row.count
        probs = jnp.zeros((size + 2,)).at[jnp.where(row.alive, row.rank, size + 2)]
        probs = probs.set(row.probs, mode="drop")
        bend = jnp.abs(probs[:-2] - 2 * probs[1:-1] + probs[2:])  # [K]
        bend = jnp.where(jnp.arange(size) < count - 2, bend, 0.0)
        spent = prefix_sum(bend)
        inside = spent <= self.z * spent[-1]
        stays = jnp.concatenate([jnp.ones((1,), bool), inside[:-1]])
        stays &= jnp.arange(size) < count - 1
        straight = (count < 3) | (spent[-1] == 0)
        return straight | stays[jnp.minimum(row.rank, size - 1)]

    def is_off(self):
        return self.z >= 1
