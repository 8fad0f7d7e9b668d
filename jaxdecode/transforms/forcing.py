"""Links that say what may come, or when: allowed and forced tokens, late ends."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import assign, pytree, shared
from jaxdecode.core.shapes import NO_ID, Scalar, bucket
from jaxdecode.transforms.base import Edit
from jaxdecode.transforms.vocabulary import check_ids, padded_ids


@pytree
class AllowTokens(Edit):
    """Draw from these tokens only.

    A row in which all of them are banned by another link is invalid.

    Args:
      ids: token ids, at least one. Shared by all rows.

    Raises:
      TypeError: if an id is not an integer.
      ValueError: if there is none, or one is negative or beyond the vocabulary.

    Reference: vLLM, `allowed_token_ids`.
    """

    ids: Any = shared()

    def __post_init__(self):
        if not check.is_traced(self.ids):
            check.token_ids("AllowTokens", "ids", self.ids, empty=False)
        assign(self, "ids", padded_ids("AllowTokens", "ids", self.ids))

    def __call__(self, logits, context, state):
        return _only(logits, self.ids)

    def check_vocabulary(self, vocab_size):
        check_ids("AllowTokens", "ids", self.ids, vocab_size)


@pytree
class ForcedTokens(Edit):
    """Fix which token comes at chosen positions.

    A position is the index of a token in the sequence, prompt included, as everywhere
    here and in Hugging Face; with `count_prompt=False` it is counted from the first
    generated token. Where a position is named, all other tokens are banned and the
    logit of the named one is 0, so that several are equally likely; a row in which
    another link banned them is invalid.

    Args:
      ids: {position: token id}, or {position: token ids} to choose among several;
        positions >= 0; an empty dict is neutral. Shared by all rows.
      count_prompt: whether positions are counted from the start of the prompt.

    Raises:
      TypeError: if `ids` is not a dict of integers.
      ValueError: if a position is negative, or an id negative or beyond the vocabulary.

    Reference: Hugging Face transformers, `ForceTokensLogitsProcessor`.
    """

    ids: Any = shared(default=None)
    count_prompt: Scalar = True
    places: Any = shared(default=None)

    def __post_init__(self):
        if self.places is not None:
            raise TypeError("ForcedTokens: `places` are the keys of `ids`.")
        places, ids = _schedule({} if self.ids is None else self.ids)
        assign(self, "ids", ids)
        assign(self, "places", places)
        flag = check.flag("ForcedTokens", "count_prompt", self.count_prompt)
        assign(self, "count_prompt", flag)

    def __call__(self, logits, context, state):
        now = jnp.where(self.count_prompt, context.length, context.generated)
        due = self.places == now
        neutral = jnp.where(logits > -jnp.inf, jnp.float32(0.0), logits)
        forced = _only(neutral, jnp.where(due, self.ids, NO_ID))
        return jnp.where(jnp.any(due), forced, logits)

    def check_vocabulary(self, vocab_size):
        check_ids("ForcedTokens", "ids", self.ids, vocab_size)


@pytree
class SuppressAtBegin(Edit):
    """Never draw these tokens first.

    They are banned while nothing was generated yet.

    Args:
      ids: token ids; none at all is neutral. Shared by all rows.

    Raises:
      TypeError: if an id is not an integer.
      ValueError: if an id is negative or beyond the vocabulary.

    Reference: Hugging Face transformers, `begin_suppress_tokens`.
    """

    ids: Any = shared(default=())

    def __post_init__(self):
        assign(self, "ids", padded_ids("SuppressAtBegin", "ids", self.ids))

    def __call__(self, logits, context, state):
        ids = jnp.where(context.generated == 0, self.ids, NO_ID)
        return logits.at[ids].set(-jnp.inf, mode="drop")

    def check_vocabulary(self, vocab_size):
        check_ids("SuppressAtBegin", "ids", self.ids, vocab_size)


@pytree
class ExponentialDecayLength(Edit):
    """Raise the end-of-sequence logits exponentially from some length on.

    With t generated tokens beyond `start`, if any:
    `z[eos] <- z[eos] + |z[eos]| * (factor**t - 1)`, kept finite; a banned end stays so.

    Args:
      start: after how many generated tokens it begins, >= 0.
      factor: growth per token, > 0; 1 is neutral, below 1 delays the end. Usual values:
        1.01 to 1.2.
      eos_ids: the ids that end a text, one or several. Shared by all rows.

    Raises:
      TypeError: if `start` or an id is not an integer.
      ValueError: if a value is out of range or NaN, or an id beyond the vocabulary.

    Reference: Hugging Face transformers, `exponential_decay_length_penalty`.
    """

    start: Scalar = 0
    factor: Scalar = 1.0
    eos_ids: Any = shared(default=())

    def __post_init__(self):
        who = type(self).__name__
        check.integers(self, start=self.start, low=0)
        check.within(self, factor=self.factor, low=0.0, low_open=True)
        assign(self, "eos_ids", padded_ids(who, "eos_ids", self.eos_ids))

    def __call__(self, logits, context, state):
        beyond = jnp.maximum(context.generated - self.start, 0).astype(jnp.float32)
        largest = jnp.finfo(jnp.float32).max
        growth = jnp.minimum(self.factor**beyond, largest)
        old = logits.at[self.eos_ids].get(mode="fill", fill_value=0.0)
        # z + |z| (g - 1) as one product each, for the sum of two could overflow
        raised = jnp.where(old > 0, old * growth, old * (2 - growth))
        raised = jnp.minimum(raised, largest)
        new = jnp.where((old > -jnp.inf) & (beyond > 0), raised, old)
        return logits.at[self.eos_ids].set(new, mode="drop")

    def check_vocabulary(self, vocab_size):
        who = type(self).__name__
        check_ids(who, "eos_ids", self.eos_ids, vocab_size)


def _only(logits, ids):
    """Ban all tokens but these."""
    allowed = jnp.zeros(logits.shape, bool).at[ids].set(True, mode="drop")
    return jnp.where(allowed, logits, -jnp.inf)


def _schedule(schedule: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return places and ids, int32, one pair for each id allowed at a place."""
    if not isinstance(schedule, Mapping):
        raise TypeError(
            "ForcedTokens: `ids` must be a dict {place: token id}, "
            f"got {check.short(schedule)}."
        )
    pairs = []
    for place, ids in schedule.items():
        at = check.token_id("ForcedTokens", "ids", place)
        found = check.token_ids("ForcedTokens", "ids", ids, empty=False)
        pairs += [(at, int(i)) for i in found]
    table = np.asarray(sorted(pairs), np.int32).reshape(-1, 2)
    pad = (0, bucket(len(pairs), low=8) - len(pairs))
    return (
        np.pad(table[:, 0], pad, constant_values=-1),
        np.pad(table[:, 1], pad, constant_values=NO_ID),
    )
