"""A watermark in the choice of words, and the test that finds it without the model.

The last token of the text divides the vocabulary: a token is green if a hash of the two
says so. The bias makes green tokens a little more frequent than chance; a count over a
text tells whether it was at work.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Edit


@pytree
class Watermark(Edit):
    """Favour the green tokens, which the last token and a seed choose anew each time.

    `z[j] <- z[j] + bias` where `hash(seed, last token, j) < fraction`. The first token
    of a text without a prompt is not marked.

    Args:
      bias: logits, finite; 0 is neutral. Usual values: 1 to 4.
      fraction: how much of the vocabulary is green, in [0, 1]. Usual values: 0.25 to
        0.5.
      seed: the secret, in [0, 2**31 - 1]; detection needs the same.

    Raises:
      TypeError: if `seed` is not an integer.
      ValueError: if a value is out of range or NaN.

    Reference: Kirchenbauer et al., A Watermark for Large Language Models, 2023, arXiv
    2301.10226, with one token of context ("left hash"). There a permutation makes
    exactly `fraction` of the vocabulary green; here each token is so with that
    probability, which a hash decides without going through the vocabulary.
    """

    bias: Scalar = 0.0
    fraction: Scalar = 0.25
    seed: Scalar = 15485863

    def __post_init__(self):
        check.within(self, bias=self.bias)
        check.within(self, fraction=self.fraction, low=0.0, high=1.0)
        check.integers(self, seed=self.seed, low=0)

    def __call__(self, logits, context, state):
        last = context.tokens[jnp.maximum(context.length - 1, 0)]
        ids = jnp.arange(logits.shape[0], dtype=jnp.int32)
        green = is_green(self.seed, last, ids, self.fraction) & (context.length > 0)
        return logits + jnp.where(green, self.bias, 0.0)


@dataclasses.dataclass(frozen=True)
class WatermarkEvidence:
    """What a text says of a watermark.

    Attributes:
      green: how many of the counted tokens are green.
      counted: how many tokens were counted.
      z: how many standard deviations `green` is above chance; 0 if none was counted.
      p_value: the probability of so large a z in a text without the watermark.
    """

    green: int
    counted: int
    z: float
    p_value: float


def detect_watermark(
    tokens: Sequence[int], watermark: Watermark, *, count_repeats: bool = False
) -> WatermarkEvidence:
    """Test whether a text carries a watermark; neither model nor prompt is needed.

    Under chance the green tokens among n are binomial, so that
    `z = (green - fraction * n) / sqrt(n * fraction * (1 - fraction))`.

    Args:
      tokens: the text's token ids; the first is only context.
      watermark: the link whose mark is looked for, one fraction and seed for all rows.
      count_repeats: whether a pair of tokens that occurs again counts again; pairs are
        only independent if it does not.

    Returns:
      A `WatermarkEvidence`.

    Raises:
      TypeError: if a token is not an integer.
      ValueError: if a token is negative, `watermark` has one value per row, or its
        fraction is 0 or 1, where nothing can be told.

    Reference: Kirchenbauer et al., 2023, arXiv 2301.10226, section 3.
    """
    fraction, seed = _lone(watermark.fraction), _lone(watermark.seed)
    if not 0 < fraction < 1:
        raise ValueError(
            "detect_watermark: `watermark.fraction` must be in (0, 1), "
            f"got {float(fraction)}."
        )
    ids = [check.token_id("detect_watermark", "tokens", t) for t in tokens]
    pairs = list(itertools.pairwise(ids))
    if not count_repeats:
        pairs = sorted(set(pairs))
    table = np.asarray(pairs, np.int32).reshape(-1, 2)
    found = is_green(seed, table[:, 0], table[:, 1], fraction)
    green, counted = int(np.sum(np.asarray(found))), len(pairs)
    p = float(fraction)
    spread = math.sqrt(counted * p * (1 - p))
    z = (green - p * counted) / spread if counted else 0.0
    return WatermarkEvidence(green, counted, z, 0.5 * math.erfc(z / math.sqrt(2)))


def is_green(seed: Any, last: Any, ids: Any, fraction: Any) -> jax.Array:
    """Say which token ids are green after the token `last`; arguments broadcast."""
    word = _mix(jnp.asarray(seed).astype(jnp.uint32))
    word = _mix(word ^ jnp.asarray(last).astype(jnp.uint32))
    word = _mix(word ^ jnp.asarray(ids).astype(jnp.uint32))
    # 24 bits: exact in float32, on every machine.
    chance = (word >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2.0**-24)
    return chance < fraction


def _mix(word: jax.Array) -> jax.Array:
    """Scramble 32 bits (Wellons, 2018: "lowbias32"); 0 is moved first."""
    word = word + jnp.uint32(0x9E3779B9)
    word = (word ^ (word >> jnp.uint32(16))) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> jnp.uint32(15))) * jnp.uint32(0x846CA68B)
    return word ^ (word >> jnp.uint32(16))


def _lone(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim:
        raise ValueError(
            "detect_watermark: `watermark` must have one value for all rows, "
            f"got shape {array.shape}."
        )
    return array
