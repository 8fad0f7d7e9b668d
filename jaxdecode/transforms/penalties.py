"""Links that push away from tokens already used, with counts carried in their state.

Counts are float32, so that a penalty is one multiply-subtract over the row. `update`
adds the drawn token and takes away the one that leaves the window; nothing is recounted.
"""

import functools

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.pytree import assign, pytree
from jaxdecode.core.shapes import NO_LIMIT, Scalar
from jaxdecode.transforms.base import Edit
from jaxdecode.transforms.context import Context, Drawn


class _Counting(Edit):
    """A penalty on how often each token occurs in the last `window` tokens."""

    penalty: Scalar
    count_prompt: Scalar
    window: Scalar

    def _check_counted(self) -> None:
        who = type(self).__name__
        window = NO_LIMIT if self.window is None else self.window
        assign(self, "window", check.whole(who, "window", window, low=0))
        assign(self, "count_prompt", check.flag(who, "count_prompt", self.count_prompt))

    def init(self, context: Context):
        position = jnp.arange(context.tokens.shape[0])
        counted = (position >= self._start(context)) & (position < context.length)
        counted &= position >= context.length - self.window
        return _add(
            jnp.zeros((context.vocab_size,), jnp.float32), context.tokens, counted
        )

    def update(self, state, drawn: Drawn):
        context = drawn.context
        leaving = context.length - self.window
        gone = (leaving >= self._start(context)) & (leaving < context.length)
        column = jnp.clip(leaving, 0, context.tokens.shape[0] - 1)
        # Adding before taking away keeps every count at zero or above.
        state = _add(state, drawn.token, self.window > 0)
        return _add(state, context.tokens[column], gone, by=-1.0)

    def _start(self, context: Context) -> jax.Array:
        return jnp.where(self.count_prompt, 0, context.prompt_length)


@pytree
class FrequencyPenalty(_Counting):
    """Lower each token's logit in proportion to how often it was generated.

    `z[j] <- z[j] - count[j] * penalty`, before any temperature.

    Args:
      penalty: logits per occurrence, finite; 0 is neutral, below 0 encourages
        repetition. Usual values: 0.1 to 1.
      count_prompt: whether the prompt's tokens count too (llama.cpp) or not (OpenAI,
        vLLM; the default).
      window: count only the last `window` tokens, >= 0; None counts all, 0 none.

    Raises:
      ValueError: if a value is out of range or NaN.

    Reference: OpenAI API reference, "frequency and presence penalties".
    """

    only_past = True

    penalty: Scalar = 0.0
    count_prompt: Scalar = False
    window: Scalar = None

    def __post_init__(self):
        check.within(self, penalty=self.penalty)
        self._check_counted()

    def __call__(self, logits, context, state):
        return logits - state * self.penalty

    def is_off(self):
        return self.penalty == 0


@pytree
class PresencePenalty(_Counting):
    """Lower the logit of every token that was generated at least once.

    `z[j] <- z[j] - penalty` where `count[j] > 0`, before any temperature.

    Args:
      penalty: logits, finite; 0 is neutral, below 0 encourages repetition. Usual
        values: 0.1 to 1.
      count_prompt: whether the prompt's tokens count too (llama.cpp) or not (OpenAI,
        vLLM; the default).
      window: look only at the last `window` tokens, >= 0; None looks at all.

    Raises:
      ValueError: if a value is out of range or NaN.

    Reference: OpenAI API reference, "frequency and presence penalties".
    """

    only_past = True

    penalty: Scalar = 0.0
    count_prompt: Scalar = False
    window: Scalar = None

    def __post_init__(self):
        check.within(self, penalty=self.penalty)
        self._check_counted()

    def __call__(self, logits, context, state):
        return logits - jnp.where(state > 0, self.penalty, jnp.float32(0.0))

    def is_off(self):
        return self.penalty == 0


@pytree
class RepetitionPenalty(_Counting):
    """Divide the positive and multiply the negative logits of tokens already seen.

    `z[j] <- z[j] / penalty if z[j] > 0 else z[j] * penalty` for every token of prompt
    and output, once however often it occurred. The rule depends on where the logits'
    zero lies, so it commutes with nothing that moves them.

    Args:
      penalty: > 0; 1 is neutral, above 1 discourages repetition. Usual values: 1.05 to
        1.3.
      count_prompt: whether the prompt's tokens count (the default, as everywhere).
      window: look only at the last `window` tokens, >= 0; None looks at all.

    Raises:
      ValueError: if `penalty` is not above 0 and finite.

    Reference: Keskar et al., CTRL: A Conditional Transformer Language Model for
    Controllable Generation, 2019, arXiv 1909.05858.
    """

    only_past = True

    penalty: Scalar = 1.0
    count_prompt: Scalar = True
    window: Scalar = None

    def __post_init__(self):
        check.within(self, penalty=self.penalty, low=0.0, low_open=True)
        self._check_counted()

    def __call__(self, logits, context, state):
        lowered = jnp.where(logits > 0, logits / self.penalty, logits * self.penalty)
        return jnp.where(state > 0, lowered, logits)

    def is_off(self):
        return self.penalty == 1


@pytree
class EncoderRepetition(Edit):
    """Raise the logits of the prompt's tokens, so that the text stays with its source.

    `z[j] <- z[j] * penalty if z[j] > 0 else z[j] / penalty` for every token of the
    prompt, once however often it occurs.

    Args:
      penalty: > 0; 1 is neutral, above 1 favours the prompt's tokens. Usual values: 1 to
        1.5.

    Raises:
      ValueError: if `penalty` is not above 0 and finite.

    Reference: Hugging Face transformers, `encoder_repetition_penalty`, which is
    `RepetitionPenalty` with the inverse penalty on the source alone.
    """

    only_past = True

    penalty: Scalar = 1.0

    def __post_init__(self):
        check.within(self, penalty=self.penalty, low=0.0, low_open=True)

    def init(self, context):
        is_prompt = jnp.arange(context.tokens.shape[0]) < context.prompt_length
        counts = jnp.zeros((context.vocab_size,), jnp.float32)
        return _add(counts, context.tokens, is_prompt)

    def __call__(self, logits, context, state):
        raised = jnp.where(logits > 0, logits * self.penalty, logits / self.penalty)
        largest = jnp.finfo(jnp.float32).max  # +inf would make the row invalid
        return jnp.where(state > 0, jnp.minimum(raised, largest), logits)

    def is_off(self):
        return self.penalty == 1


# Every penalty adds and takes away: as a `jit` it is traced once for all of them.
@functools.partial(jax.jit, static_argnames="by")
def _add(counts: jax.Array, tokens, where, *, by: float = 1.0) -> jax.Array:
    """Add `by` to the counts of `tokens` where a mask says so; others are dropped."""
    ids = jnp.where(where, tokens, counts.shape[0])
    return counts.at[ids].add(jnp.float32(by), mode="drop", wrap_negative_indices=False)
