"""Links that drop tokens below a probability: fixed, from the entropy, from the best.

All keep a prefix of the sorted row, so a window is complete once its last token is below
the threshold. Tokens as likely as the last one that `min_keep` names stay with it: equal
tokens are treated alike.
"""

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.numerics import finite_or_zero
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Truncation
from jaxdecode.transforms.candidates import Candidates

SLACK = 1e-5  # tokens that are equal in exact arithmetic are this near in float32


class _Cutoff(Truncation):
    """Keep tokens whose log-probability is at least `threshold(row)`."""

    uses_mass = True
    keeps_prefix = True

    def threshold(self, row: Candidates) -> jax.Array:
        """Return the smallest log-probability that stays."""
        raise NotImplementedError

    def keep(self, row):
        return row.logprobs >= self._limit(row)

    def complete(self, row):
        return row.logprobs[-1] < self._limit(row)

    def _limit(self, row):
        first = row.alive & (row.rank < self.min_keep)
        least = jnp.min(jnp.where(first, row.logprobs, jnp.inf))
        return jnp.minimum(self.threshold(row), least)


@pytree
class EpsilonCutoff(_Cutoff):
    """Keep tokens with a probability of at least `eps`.

    Args:
      eps: the probability, in [0, 1]; 0 keeps all (neutral). Usual values: 3e-4 to 9e-4.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `eps` is outside [0, 1] or NaN, or `min_keep` below 1.

    Reference: Hewitt, Manning and Liang, Truncation Sampling as Language Model
    Desmoothing, 2022, arXiv 2210.15191.
    """

    eps: Scalar = 0.0

    def __post_init__(self):
        check.within(self, eps=self.eps, low=0.0, high=1.0)
        super().__post_init__()

    def threshold(self, row):
        return jnp.log(self.eps)

    def is_off(self):
        return self.eps == 0


@pytree
class EtaCutoff(_Cutoff):
    """Keep tokens above a probability that falls as the row becomes less certain.

    Keeps `{ i : prob[i] >= min(eps, sqrt(eps) * exp(-H)) }`, H being the entropy in nats
    of the distribution as it stands at this link.

    Args:
      eps: the probability, in [0, 1]; 0 keeps all (neutral). Usual values: 3e-4 to 4e-3.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `eps` is outside [0, 1] or NaN, or `min_keep` below 1.

    Reference: Hewitt, Manning and Liang, Truncation Sampling as Language Model
    Desmoothing, 2022, arXiv 2210.15191. The second parameter of the paper is sqrt(eps),
    as in Hugging Face.
    """

    eps: Scalar = 0.0

    def __post_init__(self):
        check.within(self, eps=self.eps, low=0.0, high=1.0)
        super().__post_init__()

    def measure(self, values):
        return entropy(values)

    def threshold(self, row):
        log_eps = jnp.log(self.eps)
        return jnp.minimum(log_eps, 0.5 * log_eps - row.measured)

    def is_off(self):
        return self.eps == 0


@pytree
class TopA(_Cutoff):
    """Keep tokens above a fraction of the best token's probability squared.

    Keeps `{ i : prob[i] >= a * max(prob) ** 2 }`: strict where the model is sure, lenient
    where it is not.

    Args:
      a: the fraction, in [0, 1]; 0 keeps all (neutral). Usual values: 0.1 to 0.5.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `a` is outside [0, 1] or NaN, or `min_keep` below 1.

    Reference: BlinkDL, RWKV-LM, "top-a sampling", 2022; KoboldCpp.
    """

    a: Scalar = 0.0

    def __post_init__(self):
        check.within(self, a=self.a, low=0.0, high=1.0)
        super().__post_init__()

    def threshold(self, row):
        return jnp.log(self.a) + 2 * jnp.max(row.logprobs)

    def is_off(self):
        return self.a == 0


@pytree
class PLess(_Cutoff):
    """Keep tokens at least as likely as the probability that two draws agree.

    Keeps `{ i : prob[i] >= sum(prob[j] ** 2 for all j) }`; nothing to tune. A flat row
    keeps all its tokens, a certain one its best.

    Args:
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `min_keep` is below 1.

    Reference: Tan et al., p-less Sampling: A Robust Hyperparameter-Free Approach for LLM
    Decoding, 2025, arXiv 2509.23234. A slack of 1e-5 on the logarithm absorbs rounding.
    """

    def measure(self, values):
        shifted = values - finite_or_zero(jnp.max(values))
        twice, once = jnp.exp(2 * shifted), jnp.exp(shifted)
        return jnp.log(jnp.sum(twice)) - 2 * jnp.log(jnp.sum(once))

    def threshold(self, row):
        return row.measured - SLACK


def entropy(values: jax.Array) -> jax.Array:
    """Return the entropy in nats of the distribution over allowed tokens."""
    shifted = values - finite_or_zero(jnp.max(values))
    weights = jnp.exp(shifted)
    total = jnp.sum(weights)
    # Masked before the product: a slope through 0 * -inf would be NaN.
    products = weights * jnp.where(weights > 0, shifted, 0.0)
    return jnp.log(total) - jnp.sum(products) / total
