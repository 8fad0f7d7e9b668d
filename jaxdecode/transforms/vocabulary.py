"""Links that speak of particular tokens: biases, bans, and when the end may come.

Sets of ids are padded to a few sizes with an id no vocabulary has, and written with
`mode="drop"`: another ban of about the same size is the same program.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import assign, pytree, shared
from jaxdecode.core.shapes import NO_ID, Scalar, bucket
from jaxdecode.transforms.base import Edit


@pytree
class LogitBias(Edit):
    """Add a fixed number to the logits of chosen tokens.

    `z[j] <- z[j] + bias[j]`; a bias of -inf bans the token.

    Args:
      bias: {token id: bias}, or float32 [V] with one bias per token; finite or -inf;
        0 is neutral. Usual values: -5 to 5. Shared by all rows.

    Raises:
      TypeError: if an id is not an integer or a bias not a number.
      ValueError: if an id is negative or beyond the vocabulary, or a bias NaN or +inf.

    Reference: OpenAI API reference, `logit_bias`.
    """

    bias: Any = shared(default=None)
    ids: Any = shared(default=None)

    def __post_init__(self):
        if self.ids is not None:
            raise TypeError("LogitBias: takes one argument, `bias`.")
        if isinstance(self.bias, Mapping):
            ids, bias = _entries(self.bias)
        else:
            ids, bias = None, check.numeric("LogitBias", "bias", self.bias, np.float32)
        if isinstance(bias, np.ndarray):
            bad = np.isnan(bias) | (bias == np.inf)
            if bad.any():
                raise ValueError(
                    "LogitBias: `bias` must be finite or -inf, "
                    f"got {np.atleast_1d(bias)[np.atleast_1d(bad)][0]}."
                )
        if np.ndim(bias) != 1:
            raise TypeError(
                "LogitBias: `bias` must be a dict {id: bias} or a vector [V], "
                f"got {check.short(self.bias)}."
            )
        assign(self, "bias", bias)
        assign(self, "ids", ids)

    def __call__(self, logits, context, state):
        if self.ids is None:
            return logits + self.bias
        return logits.at[self.ids].add(self.bias, mode="drop")

    def check_vocabulary(self, vocab_size):
        if self.ids is not None:
            check_ids("LogitBias", "bias", self.ids, vocab_size)
        elif self.bias.shape != (vocab_size,):
            raise ValueError(
                "LogitBias: `bias` must have one entry per token of the vocabulary "
                f"({vocab_size}), got {self.bias.shape[0]}."
            )


@pytree
class BanTokens(Edit):
    """Never draw these tokens.

    Args:
      ids: token ids; none at all is neutral. Shared by all rows.

    Raises:
      TypeError: if an id is not an integer.
      ValueError: if an id is negative or beyond the vocabulary.

    Reference: Hugging Face transformers, `suppress_tokens`.
    """

    ids: Any = shared(default=())

    def __post_init__(self):
        assign(self, "ids", padded_ids("BanTokens", "ids", self.ids))

    def __call__(self, logits, context, state):
        return logits.at[self.ids].set(-jnp.inf, mode="drop")

    def check_vocabulary(self, vocab_size):
        check_ids("BanTokens", "ids", self.ids, vocab_size)


@pytree
class MinNewTokens(Edit):
    """Ban the end-of-sequence tokens until `n` tokens were generated.

    Stop sequences and stop strings completed before then do not end the row either.

    Args:
      n: how many tokens come first, >= 0; 0 is neutral.
      eos_ids: the ids that end a text, one or several. Shared by all rows.

    Raises:
      TypeError: if a value is not an integer.
      ValueError: if `n` is negative, or an id negative or beyond the vocabulary.

    Reference: Hugging Face transformers, `min_new_tokens`.
    """

    n: Scalar = 0
    eos_ids: Any = shared(default=())

    def __post_init__(self):
        check.integers(self, n=self.n, low=0)
        assign(self, "eos_ids", padded_ids("MinNewTokens", "eos_ids", self.eos_ids))

    def __call__(self, logits, context, state):
        ids = jnp.where(context.generated < self.n, self.eos_ids, NO_ID)
        return logits.at[ids].set(-jnp.inf, mode="drop")

    def earliest_end(self, context):
        return self.n

    def check_vocabulary(self, vocab_size):
        check_ids("MinNewTokens", "eos_ids", self.eos_ids, vocab_size)


def padded_ids(who: str, name: str, ids: Any) -> Any:
    """Return a set of token ids as int32, padded with `NO_ID` to a bucket of 8, 16..."""
    if check.is_traced(ids):
        return ids
    found = check.token_ids(who, name, ids)
    return np.pad(
        found, (0, bucket(found.size, low=8) - found.size), constant_values=NO_ID
    )


def _entries(bias: Mapping) -> tuple[np.ndarray, np.ndarray]:
    ids = [check.token_id("LogitBias", "bias", i) for i in bias]
    values = [check.numeric("LogitBias", "bias", b, np.float32) for b in bias.values()]
    if any(np.ndim(v) for v in values):
        raise TypeError("LogitBias: `bias` must give one number for each token id.")
    order = np.argsort(np.asarray(ids, np.int64))
    pad = (0, bucket(len(ids), low=8) - len(ids))
    return (
        np.pad(np.asarray(ids, np.int32)[order], pad, constant_values=NO_ID),
        np.pad(np.asarray(values, np.float32).reshape(-1)[order], pad),
    )


def check_ids(who: str, name: str, ids: Any, vocab_size: int) -> None:
    """Refuse ids that the vocabulary does not have; padding and tracers pass."""
    if isinstance(ids, (np.ndarray, jax.Array)) and not check.is_traced(ids):
        array = np.asarray(ids)
        check.in_vocabulary(who, name, array[array != NO_ID], vocab_size)
