"""What a link is: a value that changes one row of logits on its way to a token.

A link is written for ONE row and lifted over the batch in one place. It reads in
`__call__`, `keep` or `scale`; only `update` writes, after the token is known. Three
kinds: an `Edit` sees the row in vocabulary order, a `Truncation` decides which of the
sorted candidates stay, a `Scale` changes values without changing their order.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Array

if TYPE_CHECKING:
    from jaxdecode.transforms.candidates import Candidates


@pytree
class Context:
    """What one row knows of its past when a token is about to be drawn.

    Attributes:
      tokens: int32 [S], the prompt, then what was generated; columns from `length` on
        hold nothing.
      length: int32, how many tokens there are: the position of the token to be drawn.
      prompt_length: int32, how many of them are the prompt.
      key: the step key, or None where no stochastic link can occur.
      vocab_size: V.
    """

    tokens: Array
    length: Array
    prompt_length: Array
    key: Any
    vocab_size: int = static()

    @property
    def generated(self) -> Array:
        """How many tokens were generated so far, int32."""
        return self.length - self.prompt_length


@pytree
class Drawn:
    """What an `update` may know: the row as it was before the draw, and the token.

    Attributes:
      token: int32, the id that was drawn; it stands at position `context.length`.
      logprob: float32, its log-probability under the distribution it was drawn from.
      context: the row's past, without the token.
      seen: what the link's `observe` returned; () for links without one.
    """

    token: jax.Array
    logprob: jax.Array
    context: Context
    seen: Any = ()


class Link:
    """A step of a chain; subclass `Edit`, `Truncation` or `Scale`, not this.

    Attributes:
      stochastic: whether it reads `context.key`.
      observes: whether `update` reads `drawn.seen`. Only a `Truncation` can: an edit has
        no candidates to observe.
      reweighs: whether it gives candidates a new order; it must be the last link.
    """

    stochastic: ClassVar[bool] = False
    observes: ClassVar[bool] = False
    reweighs: ClassVar[bool] = False

    def init(self, context: Context) -> Any:
        """Return the state of one row whose past is `context`; () if there is none."""
        return ()

    def update(self, state: Any, drawn: Drawn) -> Any:
        """Return the state after a token; the same structure, shapes and dtypes."""
        return state

    def is_greedy(self) -> jax.Array | np.ndarray | bool:
        """Say whether one row keeps nothing but its first maximum."""
        return False

    def is_off(self) -> jax.Array | np.ndarray | bool:
        """Say whether the parameters of one row have their neutral value.

        A link that is off gives back each row bit for bit, so it need not run. The
        default is never off, which is always right.
        """
        return False

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise ValueError if the link names token ids that the vocabulary lacks."""


class Edit(Link):
    """A link that sees the row in vocabulary order: biases, bans, penalties."""

    def __call__(self, logits: jax.Array, context: Context, state: Any) -> jax.Array:
        """Return the changed logits, float32 [V]; -inf stays -inf."""
        raise NotImplementedError


class Scale(Link):
    """A link that changes values but not their order: temperatures of all kinds.

    Attributes:
      measures: whether `scale` reads `row.measured`, which is then what `measure` says.
    """

    measures: ClassVar[bool] = False

    def scale(self, values: jax.Array, row: "Candidates") -> jax.Array:
        """Return `values` changed; they are the row's candidates, or its whole row."""
        raise NotImplementedError

    def measure(self, values: jax.Array) -> Any:
        """Return numbers about all allowed tokens, from their values; -inf is banned."""
        return ()


class Truncation(Link):
    """A link that drops tokens; one definition for a window and for the sorted row.

    Attributes:
      min_keep: how many of the best tokens it always keeps.
      uses_mass: whether `keep` or `complete` reads probabilities.
      measures: whether they read `row.measured`, which is then what `measure` says.
      keeps_argmax: whether the best token always stays; if not, `keep` itself sees to
        `min_keep`.
      keeps_prefix: whether no token stays behind one that is dropped.
    """

    min_keep: Any = 1
    uses_mass: ClassVar[bool] = False
    measures: ClassVar[bool] = False
    keeps_argmax: ClassVar[bool] = True
    keeps_prefix: ClassVar[bool] = False

    def keep(self, row: "Candidates") -> jax.Array:
        """Return which candidates stay, bool [K]; dropped ones may be named again."""
        raise NotImplementedError

    def complete(self, row: "Candidates") -> jax.Array:
        """Say whether every token it could keep is inside the window of an open row.

        The default is never sure, which is always right: the row is then sorted whole.
        """
        return jnp.asarray(False)

    def is_idle(self, row: "Candidates") -> Any:
        """Say whether it changes nothing of this row; at least where it is off."""
        return self.is_off()

    def measure(self, values: jax.Array) -> Any:
        """Return numbers about all allowed tokens, from their values; -inf is banned."""
        return ()

    def reweigh(self, row: "Candidates") -> jax.Array:
        """Return new values for the candidates, for links that declare `reweighs`."""
        return row.values

    def observe(self, row: "Candidates", token: jax.Array) -> Any:
        """Return what `update` shall know: numbers, from the row as this link saw it."""
        return ()
