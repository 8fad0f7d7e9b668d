"""Links that keep what is typical of the row: locally typical sampling, top-H."""

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.numerics import prefix_sum
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Truncation
from jaxdecode.transforms.candidates import Candidates
from jaxdecode.transforms.cutoffs import entropy

TOP_H_CANDIDATES = 100


@pytree
class Typical(Truncation):
    """Keep the tokens whose surprise is nearest to the row's entropy, up to a mass.

    In the order of `s[i] = |-log(prob[i]) - H|`, the least first, tokens are taken until
    their mass is at least `mass`; the token that crosses it is kept. Very likely tokens
    may be dropped. Tokens as far from H as the last one taken stay too, as in Hugging
    Face; with `ties="exact"` only those taken, as in llama.cpp.

    Args:
      mass: the mass, in [0, 1]; 1 keeps all (neutral). Usual values: 0.2 to 0.95.
      ties: "keep" or "exact". Static: another value is another program.
      min_keep: keep at least so many of the most typical tokens, >= 1.

    Raises:
      ValueError: if `mass` is outside [0, 1] or NaN, `min_keep` below 1, or
        `ties` unknown.

    Reference: Meister et al., Locally Typical Sampling, 2022, arXiv 2202.00666.
    """

    uses_mass = True
    keeps_argmax = False

    mass: Scalar = 1.0
    ties: str = static(default="keep")

    def __post_init__(self):
        check.choice("Typical", "ties", self.ties, ("keep", "exact"))
        check.within(self, mass=self.mass, low=0.0, high=1.0)
        super().__post_init__()

    def measure(self, values):
        return entropy(values)

    def keep(self, row):
        distance, kept = self._taken(row)
        if self.ties == "exact":
            return kept
        return distance <= jnp.max(jnp.where(kept, distance, -jnp.inf))

    def complete(self, row):
        # All in the tail are less likely than the last of the window; if that one is
        # more surprising than H and farther from it than any taken, so are they.
        distance, kept = self._taken(row)
        farthest = jnp.max(jnp.where(kept, distance, -jnp.inf))
        enough = jnp.sum(jnp.where(kept, row.probs, 0.0)) >= self.mass
        enough &= jnp.sum(kept) >= self.min_keep
        return enough & (-row.logprobs[-1] - row.measured > farthest)

    def is_off(self):
        return self.mass >= 1

    def _taken(self, row: Candidates):
        """Return each candidate's distance from H, and whether its turn came."""
        distance = jnp.abs(-row.logprobs - row.measured)
        distance = jnp.where(row.alive, distance, jnp.inf)
        place = jnp.arange(distance.shape[0], dtype=jnp.int32)
        _, probs, order = jax.lax.sort((distance, row.probs, place), num_keys=1)
        mass = prefix_sum(probs)
        before = jnp.concatenate([jnp.zeros((1,), mass.dtype), mass[:-1]])
        taken = (before < self.mass) | (place < self.min_keep)
        return distance, jnp.zeros_like(row.alive).at[order].set(taken) & row.alive


@pytree
class TopH(Truncation):
    """Keep the most likely tokens while their share of the entropy is at most `h`.

    Of the 100 best tokens, renormalised to q: in descending order they stay while
    `sum(-q[j] * log(q[j]) for j up to i) <= h * H(q)`; the first always does.

    Args:
      h: the share, in (0, 1]; 1 keeps the 100 best. Usual values: 0.3 to 0.6.
      min_keep: keep at least so many, >= 1.

    Raises:
      ValueError: if `h` is outside (0, 1] or NaN, or `min_keep` below 1.

    Reference: Potraghloo et al., Top-H Decoding: Adapting the Creativity and Coherence
    with Bounded Entropy in Text Generation, 2025, arXiv 2509.02510. The 100 best are
    Hugging Face's.
    """

    keeps_prefix = True

    h: Scalar

    def __post_init__(self):
        check.within(self, h=self.h, low=0.0, high=1.0, low_open=True)
        super().__post_init__()

    def keep(self, row):
        among = row.alive & (row.rank < TOP_H_CANDIDATES)
        logq = jnp.where(among, row.values - row.best, -jnp.inf)
        logq = logq - jnp.log(jnp.sum(jnp.exp(logq)))
        shares = jnp.where(among, -jnp.exp(logq) * logq, 0.0)
        shares = jnp.where(jnp.isfinite(shares), shares, 0.0)
        spent = prefix_sum(shares)
        return among & ((spent <= self.h * spent[-1]) | (self.h >= 1))

    def complete(self, row):
        return jnp.asarray(row.size >= TOP_H_CANDIDATES)
