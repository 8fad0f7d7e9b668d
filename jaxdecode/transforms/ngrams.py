"""Links that look for what has been said before, word for word: DRY, no-repeat-n-gram.

Both carry, for every position i of the history, the length of the longest common suffix
of the text before i and the whole text: how many tokens back the two agree. A drawn
token moves that vector by one column and lengthens or breaks each match, so a step costs
as much as the history is long, and nothing grows with its square.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core import check, varying
from jaxdecode.core.pytree import assign, pytree, shared
from jaxdecode.core.shapes import NO_LIMIT, Array, Scalar
from jaxdecode.transforms.base import Edit
from jaxdecode.transforms.context import Context, Drawn
from jaxdecode.transforms.vocabulary import check_ids, padded_ids

LOG_LARGEST = 88.7228  # exp of more than this leaves float32's range


class _Repeating(Edit):
    """An edit that knows where the end of the text has occurred before."""

    def init(self, context: Context):
        return suffix_matches(context.tokens, context.length)

    def update(self, state, drawn: Drawn):
        return longer_matches(state, drawn.context, drawn.token)


@pytree
class DRY(_Repeating):
    """Lower each token that would lengthen a repetition, exponentially in its length.

    Where the end of the text has occurred before and token x followed, with L tokens in
    common: `z[x] <- z[x] - multiplier * base ** (L - allowed_length)` if L is at least
    `allowed_length`, for the largest such L. A common part never reaches back over a
    breaker, and breakers themselves are never lowered. Prompt and output count.

    Args:
      multiplier: logits at the allowed length, >= 0; 0 is neutral. Usual value: 0.8.
      base: growth per further token, >= 1. Usual value: 1.75.
      allowed_length: how many tokens may be repeated freely, >= 0. Usual value: 2.
      window: look only at the last `window` tokens, >= 0; None looks at all.
      breakers: ids of tokens that end a repetition, such as line ends. Shared by all
        rows.

    Raises:
      TypeError: if `allowed_length`, `window` or an id is not an integer.
      ValueError: if a value is out of range or NaN, or an id beyond the vocabulary.

    Reference: p-e-w, DRY: A Modern Repetition Penalty, text-generation-webui pull request
    5677, 2024; clipping of the exponent and breakers as in llama.cpp.
    """

    multiplier: Scalar = 0.0
    base: Scalar = 1.75
    allowed_length: Scalar = 2
    window: Scalar = None
    breakers: Any = shared(default=())

    def __post_init__(self):
        window = NO_LIMIT if self.window is None else self.window
        check.within(self, multiplier=self.multiplier, low=0.0)
        check.within(self, base=self.base, low=1.0)
        check.integers(self, allowed_length=self.allowed_length, low=0)
        assign(self, "window", check.whole("DRY", "window", window, low=0))
        assign(self, "breakers", padded_ids("DRY", "breakers", self.breakers))

    def init(self, context):
        place = jnp.arange(context.tokens.shape[0], dtype=jnp.int32)
        breaks = self._is_breaker(context.tokens) & (place < context.length)
        last = jnp.max(jnp.where(breaks, place, -1))
        return jnp.minimum(super().init(context), context.length - 1 - last)

    def update(self, state, drawn):
        longer = super().update(state, drawn)
        return jnp.where(self._is_breaker(drawn.token[None])[0], 0, longer)

    def __call__(self, logits, context, state):
        place = jnp.arange(context.tokens.shape[0], dtype=jnp.int32)
        first = jnp.maximum(context.length - self.window, 0)
        shared = jnp.minimum(state, place - first)  # a match ends where the window does
        repeats = (place >= first) & (place < context.length)
        repeats &= shared >= self.allowed_length
        repeats &= context.length - first > self.allowed_length
        repeats &= ~self._is_breaker(context.tokens)
        excess = jnp.minimum(shared - self.allowed_length, self._exponent_max())
        penalty = self.multiplier * self.base ** excess.astype(jnp.float32)
        # Finite, so that a penalty is never a ban.
        lowest = jnp.finfo(jnp.float32).min
        lowered = logits[context.tokens] - penalty
        lowered = jnp.where(lowered == -jnp.inf, lowest, lowered)
        ids = jnp.where(
            repeats & (self.multiplier > 0), context.tokens, logits.shape[0]
        )
        return logits.at[ids].min(lowered, mode="drop")  # the longest repetition wins

    def check_vocabulary(self, vocab_size):
        check_ids("DRY", "breakers", self.breakers, vocab_size)

    def _exponent_max(self):
        log_base = jnp.log(jnp.maximum(self.base, 1.000001))
        return jnp.floor(LOG_LARGEST / log_base).astype(jnp.int32)

    def _is_breaker(self, tokens: Array) -> jax.Array:
        return jnp.any(tokens[:, None] == self.breakers[None, :], axis=1)


@pytree
class NoRepeatNGram(_Repeating):
    """Ban every token that would complete an n-gram which is already in the text.

    Prompt and output count.

    Args:
      n: the length of the n-gram, >= 0; 0 bans nothing (neutral), 1 bans every token
        seen. Usual values: 2 to 4.

    Raises:
      TypeError: if `n` is not an integer.
      ValueError: if `n` is negative.

    Reference: Paulus, Xiong and Socher, A Deep Reinforced Model for Abstractive
    Summarization, 2017, arXiv 1705.04304.
    """

    n: Scalar = 0

    def __post_init__(self):
        check.integers(self, n=self.n, low=0)

    def __call__(self, logits, context, state):
        place = jnp.arange(context.tokens.shape[0], dtype=jnp.int32)
        again = (place < context.length) & (state >= self.n - 1) & (self.n > 0)
        ids = jnp.where(again, context.tokens, logits.shape[0])
        return logits.at[ids].set(-jnp.inf, mode="drop")


def suffix_matches(tokens: Array, length: Array) -> jax.Array:
    """Return how far the text before each position agrees with the whole text.

    Entry i < length is the largest L with `tokens[i-L:i] == tokens[length-L:length]`;
    entries from `length` on are 0. Found in linear time by the Z-algorithm on the
    reversed text: every step of its loop either compares one more pair of tokens, which
    moves `right`, or finishes a position.

        z = [0] * n                       # n = len(text), text reversed
        left = right = 0
        for i in range(1, n):
            k = min(right - i, z[i - left]) if i < right else 0
            while i + k < n and text[k] == text[i + k]: k += 1
            if i + k > right: left, right = i, i + k
            z[i] = k

    Args:
      tokens: int32 [S].
      length: int32, how many of them are the text.

    Returns:
      int32 [S].
    """
    size = tokens.shape[0]

    def at(i):  # the reversed text
        return tokens[jnp.clip(length - 1 - i, 0, size - 1)]

    def step(carry, _):
        z, i, k, left, right = carry
        agree = (i + k < length) & (at(k) == at(i + k))
        grown = k + agree.astype(jnp.int32)
        reaches = ~agree & (i + k > right)
        left, right = jnp.where(reaches, i, left), jnp.where(reaches, i + k, right)
        z = z.at[jnp.where(agree, size, i)].set(k, mode="drop")
        following = i + 1
        known = jnp.minimum(
            right - following, z[jnp.clip(following - left, 0, size - 1)]
        )
        start = jnp.where(following < right, known, 0)
        i, k = jnp.where(agree, i, following), jnp.where(agree, grown, start)
        return (z, i, k, left, right), None

    zero = jnp.int32(0)
    start = (jnp.zeros((size,), jnp.int32), jnp.int32(1), zero, zero, zero)
    given = (tokens, length)
    (z, *_), _ = varying.scan(step, start, None, given=given, length=2 * size)
    place = jnp.arange(size, dtype=jnp.int32)
    # Position i of the text ends what starts at `length - i` of the reversed text.
    back = jnp.clip(length - place, 0, size - 1)
    return jnp.where((place > 0) & (place < length), z[back], 0)


def longer_matches(state: jax.Array, context: Context, token: jax.Array) -> jax.Array:
    """Return `suffix_matches` after one more token, from what it was before."""
    before = jnp.concatenate([jnp.zeros((1,), jnp.int32), state[:-1] + 1])
    preceding = jnp.concatenate([context.tokens[:1], context.tokens[:-1]])
    place = jnp.arange(state.shape[0], dtype=jnp.int32)
    goes_on = (preceding == token) & (place >= 1) & (place <= context.length)
    return jnp.where(goes_on, before, 0)
