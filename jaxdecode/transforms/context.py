"""What one row knows: of its past before a draw, and of the token after it."""

from typing import Any

import jax

from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Array


@pytree
class Context:
    """What one row knows of its past when a token is about to be drawn.

    Attributes:
      tokens: int32 [T], the prompt, then what was generated; columns from `length` on
        hold nothing.
      length: int32, the number of tokens: the position of the token to be drawn.
      prompt_length: int32, how many of them are the prompt.
      key: the step key, or None where no stochastic link can occur.
      vocab_size: V. Static.
      budget: int32, how many tokens may be generated in all, or None if nobody says.
      ends: int32 [E], ids that end the text, padded with an id no vocabulary has, or
        None if nobody says.
    """

    tokens: Array
    length: Array
    prompt_length: Array
    key: Any
    vocab_size: int = static()
    budget: Any = None
    ends: Any = None

    @property
    def generated(self) -> Array:
        """The number of tokens that were generated so far, int32."""
        return self.length - self.prompt_length


@pytree
class Drawn:
    """What an `update` may know: the row as it was before the draw, and the token.

    Attributes:
      token: int32, the id that was drawn; it stands at position `context.length`.
      logprob: float32, its log-probability under the distribution it was drawn from.
      context: the row's past, without the token.
      seen: what the link's `observe` returned; None for a link without one.
    """

    token: jax.Array
    logprob: jax.Array
    context: Context
    seen: Any = None
