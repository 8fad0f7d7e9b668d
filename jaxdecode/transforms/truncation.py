"""Links that keep the most likely tokens: top-k, top-p, min-p."""

import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.numerics import prefix_sum
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Truncation


@pytree
class TopK(Truncation):
    """Keep the `k` tokens with the largest logits.

    With `ties="exact"` exactly k stay, ties at the cut going to the lower token id;
    with `ties="keep"` every token at least as large as the k-th stays, which is the
    rule of Hugging Face and vLLM, and under which k = 1 is not greedy.

    Args:
      k: how many to keep, >= 0; 0 keeps all (neutral). Usual values: 20 to 100.
      ties: "exact" or "keep". Static: another value is another program.
      min_keep: keep at least so many, >= 1.

    Raises:
      TypeError: if `k` is not an integer.
      ValueError: if `k` is negative, `min_keep` below 1 or `ties` unknown.

    Reference: Fan, Lewis and Dauphin, Hierarchical Neural Story Generation, 2018,
    arXiv 1805.04833.
    """

    keeps_prefix = True

    k: Scalar = 0
    ties: str = static(default="exact")

    def __post_init__(self):
        check.choice("TopK", "ties", self.ties, ("exact", "keep"))
        check.integers(self, k=self.k, low=0)
        super().__post_init__()

    def keep(self, row):
        if self.ties == "exact":
            return row.rank < self.k
        return row.values >= self._threshold(row)

    def complete(self, row):
        enough = row.size >= self.k
        if self.ties == "exact":
            return enough
        return enough & (row.values[-1] < self._threshold(row))

    def least_size(self, row):
        return jnp.asarray(self.k, jnp.float32)

    def is_off(self):
        return self.k == 0

    def _threshold(self, row):
        among = row.alive & (row.rank < jnp.maximum(self.k, self.min_keep))
        return jnp.min(jnp.where(among, row.values, jnp.inf))


@pytree
class TopP(Truncation):
    """Keep the smallest set of most likely tokens that holds a mass of `p` (nucleus).

    Tokens are taken in descending order while the mass before them is below p, so the
    token that crosses p is kept:
    `keep i  iff  sum(prob[j] for j before i) < p`.
    Mass is counted on the distribution as it stands at this link: after a top-k it is
    the renormalised one.

    Args:
      p: the mass, in [0, 1]; 1 keeps all (neutral), 0 keeps `min_keep`. Usual values:
        0.8 to 0.95.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `p` is outside [0, 1] or NaN, or `min_keep` below 1.

    Reference: Holtzman et al., The Curious Case of Neural Text Degeneration, 2019,
    arXiv 1904.09751. Ties at the cut are broken to the lower token id.
    """

    uses_mass = True
    keeps_prefix = True

    p: Scalar = 1.0

    def __post_init__(self):
        check.within(self, p=self.p, low=0.0, high=1.0)
        super().__post_init__()

    def keep(self, row):
        mass = prefix_sum(row.probs)
        before = jnp.concatenate([jnp.zeros((1,), mass.dtype), mass[:-1]])
        return before < self.p

    def complete(self, row):
        return prefix_sum(row.probs)[-1] >= self.p

    def least_size(self, row):
        missing = self.p - jnp.sum(row.probs)  # no token behind has more than the last
        return row.size + missing / row.probs[-1]

    def is_off(self):
        return self.p >= 1


@pytree
class MinP(Truncation):
    """Keep tokens at least `p` times as likely as the best one.

    Keeps `{ i : prob[i] >= p * max(prob) }`; tested on logits, so no normaliser is
    needed.

    Args:
      p: fraction of the best token's probability, in [0, 1]; 0 keeps all (neutral).
        Usual values: 0.02 to 0.2.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `p` is outside [0, 1] or NaN, or `min_keep` below 1.

    Reference: Nguyen et al., Turning Up the Heat: Min-p Sampling for Creative and
    Coherent LLM Outputs, 2024, arXiv 2407.01082.
    """

    keeps_prefix = True

    p: Scalar = 0.0

    def __post_init__(self):
        check.within(self, p=self.p, low=0.0, high=1.0)
        super().__post_init__()

    def keep(self, row):
        return row.values >= self._threshold(row)

    def complete(self, row):
        return row.values[-1] < self._threshold(row)

    def is_off(self):
        return self.p == 0

    def _threshold(self, row):
        return row.best + jnp.log(self.p)  # log 0 = -inf: keep all
