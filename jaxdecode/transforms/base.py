"""What a link is: a value that changes one row of logits on its way to a token.

A link is written for ONE row; `sampling` lifts it over the batch in one place. It reads
in `__call__`, `keep` or `scale`; only `update` writes, after the token is known. There
are three kinds: an `Edit` sees the row in vocabulary order, a `Truncation` decides which
of the sorted candidates stay, a `Scale` changes values without changing their order.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree, replace
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.candidates import Candidates, in_place
from jaxdecode.transforms.context import Context, Drawn


class Link:
    """A step of a chain; subclass `Edit`, `Truncation` or `Scale`, not this.

    Attributes:
      stochastic: whether it reads `context.key`.
    """

    stochastic: ClassVar[bool] = False

    def init(self, context: Context) -> Any:
        """Return the state of one row whose past is `context`; None if there is none."""
        return None

    def update(self, state: Any, drawn: Drawn) -> Any:
        """Return the state after a token; the same structure, shapes and dtypes."""
        return state

    def is_greedy(self) -> jax.Array | np.ndarray | bool:
        """Whether one row keeps nothing but its first maximum."""
        return False

    def is_off(self) -> jax.Array | np.ndarray | bool:
        """Whether the parameters of one row have their neutral value.

        A link that is off gives back each row bit for bit, so it need not run. The
        default is never off, which is always right.
        """
        return False

    def earliest_end(self, context: Context) -> Any:
        """Return how many tokens of one row must be generated before it may end."""
        return 0

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise ValueError if the link names token ids that the vocabulary lacks."""

    def check_request(self, vocab_size: int, budget: Any, ends: Any) -> None:
        """Raise ValueError if the link cannot serve what is asked for.

        Args:
          vocab_size: V.
          budget: int32, tokens that may be generated, a number or one per row; None
            where nothing is generated.
          ends: int32 [E], ids that end a text, padded; None where nothing is generated.
        """


class Edit(Link):
    """A link that sees the row in vocabulary order: biases, bans, penalties.

    Attributes:
      only_past: whether it changes only tokens that stand in `context.tokens`, each by
        its own logit and its own entry of the state, whose leaves are [V]. It may then
        be given any of these entries instead of all. A subclass that defines `__call__`,
        `init` or `update` anew has to declare it anew.
    """

    only_past: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        own = cls.__dict__
        if "only_past" not in own and {"__call__", "init", "update"} & own.keys():
            cls.only_past = False

    def __call__(self, logits: jax.Array, context: Context, state: Any) -> jax.Array:
        """Return the changed logits, float32 [V]; -inf stays -inf."""
        raise NotImplementedError


class Scale(Link):
    """A link that changes values but not their order: temperatures of all kinds."""

    def scale(self, values: jax.Array, row: Candidates) -> jax.Array:
        """Return `values` changed; they are the row's candidates, or its whole row."""
        raise NotImplementedError

    def measure(self, values: jax.Array) -> Any:
        """Return numbers about all allowed tokens, from their values; -inf is banned.

        They are `row.measured` in `scale`.
        """
        return None

    def __call__(self, logits: jax.Array, context: Context, state: Any) -> jax.Array:
        """Return the scaled logits of a whole row, float32 [V], as an edit would."""
        row = replace(in_place(logits, context), state=state)
        return self.scale(logits, replace(row, measured=self.measure(logits)))


@pytree
class Truncation(Link):
    """A link that drops tokens; one definition for a window and for the sorted row.

    Attributes:
      min_keep: how many of the best tokens it always keeps, >= 1. Keyword-only.
      uses_mass: whether `keep` or `complete` reads probabilities.
      keeps_argmax: whether the best token always stays; if not, `keep` itself must
        keep `min_keep` tokens.
      keeps_prefix: whether no token stays behind one that is dropped.
    """

    uses_mass: ClassVar[bool] = False
    keeps_argmax: ClassVar[bool] = True
    keeps_prefix: ClassVar[bool] = False

    _: dataclasses.KW_ONLY
    min_keep: Scalar = np.int32(1)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("min_keep")
        # Declared again, the field would otherwise become the first positional one.
        if own is not None and not isinstance(own, dataclasses.Field):
            cls.min_keep = dataclasses.field(default=own, kw_only=True)

    def __post_init__(self):
        check.integers(self, min_keep=self.min_keep, low=1)

    def keep(self, row: Candidates) -> jax.Array:
        """Return which candidates stay, bool [K]; dropped ones may be named again."""
        raise NotImplementedError

    def complete(self, row: Candidates) -> jax.Array:
        """Whether every token it could keep is inside the window of an open row.

        The default is never sure, which is always right: the row is then sorted whole.
        """
        return jnp.asarray(False)

    def least_size(self, row: Candidates) -> jax.Array | float:
        """Return how many of the best tokens it keeps at least, float32.

        Asked of a window that could not hold them, so that smaller ones are not tried.
        The default says nothing, which is always right.
        """
        return 0.0

    def is_idle(self, row: Candidates) -> Any:
        """Whether it changes nothing of this row; at least where it is off."""
        return self.is_off()

    def measure(self, values: jax.Array) -> Any:
        """Return numbers about all allowed tokens, from their values; -inf is banned.

        They are `row.measured` in `keep` and `complete`.
        """
        return None

    def reweigh(self, row: Candidates) -> jax.Array:
        """Return new values for the candidates, in another order if need be.

        A link that defines this must be the last of its chain.
        """
        return row.values

    def observe(self, row: Candidates, token: jax.Array) -> Any:
        """Return numbers for `drawn.seen`, from the row as this link saw it."""
        return None


def overrides(link: Link, method: Callable) -> bool:
    """Whether a link's class defines a method of its base class itself."""
    return getattr(type(link), method.__name__, method) is not method


def observes(link: Link) -> bool:
    """Whether a link's state depends on what it saw of the row."""
    return overrides(link, Truncation.observe)


def reweighs(link: Link) -> bool:
    """Whether a link gives the candidates a new order."""
    return overrides(link, Truncation.reweigh)
