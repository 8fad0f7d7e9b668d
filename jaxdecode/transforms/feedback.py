"""Links whose next step depends on the token that was drawn: mirostat, adaptive-p.

Both observe the row they saw together with the token, so a chain that holds one of them
draws every row from candidates; greedy rows and untruncated rows have no short cut.
"""

import math

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Truncation
from jaxdecode.transforms.candidates import Candidates

ZIPF_CANDIDATES = 100
SPREAD = 0.3
PEAK, SHARPNESS = 5.0, 10.0
_LN2 = math.log(2.0)


@pytree
class Mirostat(Truncation):
    """Hold the surprise of the text at a target by moving a cut after every token.

    The state is mu, at first `2 * tau`, in bits. Version 2 keeps the tokens with
    `-log2(prob) <= mu`. Version 1 estimates the exponent s of Zipf's law from the 100
    best tokens and keeps the best k, with `e = s - 1`, V the vocabulary size and
    `k = (e * 2**mu / (1 - V**-e)) ** (1 / s)`. Both then draw from the kept tokens and
    set `mu <- mu - eta * (surprise - tau)`, the surprise being that of the token among
    those kept.

    Args:
      tau: the surprise to hold, in bits, >= 0. Usual values: 3 to 5.
      eta: how fast mu moves, >= 0. Usual value: 0.1.
      version: 1 or 2. Static: another value is another program.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `tau` or `eta` is negative, NaN or infinite, `min_keep` below 1, or
        `version` neither 1 nor 2.

    Reference: Basu et al., Mirostat: A Neural Text Decoding Algorithm that Directly
    Controls Perplexity, 2020, arXiv 2007.14966; version 2 is llama.cpp's.
    """

    uses_mass = True
    keeps_prefix = True

    tau: Scalar = 5.0
    eta: Scalar = 0.1
    version: int = static(default=2)

    def __post_init__(self):
        check.choice("Mirostat", "version", self.version, (1, 2))
        check.within(self, tau=self.tau, eta=self.eta, low=0.0)
        super().__post_init__()

    def init(self, context):
        return 2 * jnp.asarray(self.tau)

    def keep(self, row):
        if self.version == 1:
            return row.rank.astype(jnp.float32) < self._zipf_count(row)
        return -row.logprobs / _LN2 <= row.state

    def complete(self, row):
        if self.version == 1:
            fits = self._zipf_count(row) <= row.size
            return fits & (row.size >= ZIPF_CANDIDATES)
        return -row.logprobs[-1] / _LN2 > row.state

    def observe(self, row, token):
        """Return the token's surprise in bits among those kept."""
        kept = row.alive & (self.keep(row) | (row.rank < self.min_keep))
        logprobs = jnp.where(kept, row.logprobs, -jnp.inf)
        mass = jnp.sum(jnp.exp(logprobs))
        drawn = jnp.max(jnp.where(row.ids == token, logprobs, -jnp.inf))
        surprise = (jnp.log(mass) - drawn) / _LN2
        return jnp.where(jnp.isfinite(surprise), surprise, jnp.float32(0.0))

    def update(self, state, drawn):
        return state - self.eta * (drawn.seen - self.tau)

    def _zipf_count(self, row: Candidates) -> jax.Array:
        """Return k, at least 1, as a float that may be infinite."""
        size = min(ZIPF_CANDIDATES, row.values.shape[0])
        place = jnp.arange(size - 1, dtype=jnp.float32)
        pairs = row.alive[: size - 1] & row.alive[1:size]
        t = jnp.where(pairs, jnp.log((place + 2) / (place + 1)), 0.0)
        b = jnp.where(pairs, row.values[: size - 1] - row.values[1:size], 0.0)
        squares = jnp.sum(t * t)
        s = jnp.sum(t * b) / jnp.where(squares > 0, squares, 1.0)
        e = s - 1
        log_v = math.log(row.context.vocab_size)
        near = jnp.abs(e) < 1e-6  # there e / (1 - V**-e) is 1 / log V
        share = jnp.where(near, 1.0, e) / -jnp.expm1(jnp.where(near, 1.0, -e * log_v))
        share = jnp.where(near, 1 / max(log_v, _LN2), share)
        log_k = (jnp.log(share) + row.state * _LN2) / jnp.where(s > 0, s, 1e-6)
        return jnp.maximum(jnp.floor(jnp.exp(log_k)), 1.0)


@pytree
class AdaptiveP(Truncation):
    """Prefer tokens whose probability is near a target, and correct for what was drawn.

    With `a = clip(2 * target - S / W, 0, 1)` and `d[i] = |prob[i] - a| / 0.3`, the new
    logits are `5 - 10 * d**2 / (1 + d)`. S and W are running sums of the drawn tokens'
    original probabilities and of ones, both decayed: `S <- prob + decay * S`,
    `W <- 1 + decay * W`, from the start in balance at the target. It must be the last
    link, for it gives the tokens a new order; put a truncation before it, or every row
    is sorted whole.

    Args:
      target: the probability to aim at, in [-1, 1]; below 0 it is off (neutral). Usual
        values: 0.3 to 0.9.
      decay: how long it remembers, in [0, 0.99]. Usual value: 0.9.

    Raises:
      ValueError: if a value is out of range or NaN.

    Reference: MrJackSpade, adaptive-p sampler, llama.cpp pull request 17927, 2025.
    """

    uses_mass = True
    keeps_argmax = False

    target: Scalar
    decay: Scalar = 0.9
    min_keep: Scalar = static(default=1, init=False)

    def __post_init__(self):
        check.within(self, target=self.target, low=-1.0, high=1.0)
        check.within(self, decay=self.decay, low=0.0, high=0.99)

    def init(self, context):
        weight = 1 / (1 - jnp.asarray(self.decay))
        return jnp.maximum(self.target, 0.0) * weight, weight

    def keep(self, row):
        return row.alive

    def reweigh(self, row):
        total, weight = row.state
        aim = jnp.clip(2 * self.target - total / weight, 0.0, 1.0)
        d = jnp.abs(row.probs - aim) / SPREAD
        return PEAK - SHARPNESS * d * d / (1 + d)

    def observe(self, row, token):
        """Return the probability of the token before it was changed."""
        return jnp.max(jnp.where(row.ids == token, row.probs, 0.0))

    def update(self, state, drawn):
        total, weight = state
        return drawn.seen + self.decay * total, 1 + self.decay * weight

    def is_off(self):
        return self.target < 0
