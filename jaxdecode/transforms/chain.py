"""A chain: links in the order in which they act, and the usual ones put together.

The order is the user's; nothing is moved behind their back. What a chain holds is its
structure: the classes, their order, and static fields. Everything else is data.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree, replace
from jaxdecode.core.shapes import Scalar
from jaxdecode.transforms.base import Context, Drawn, Edit, Link, Scale, Truncation
from jaxdecode.transforms.penalties import (
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
)
from jaxdecode.transforms.scale import Temperature
from jaxdecode.transforms.truncation import MinP, TopK, TopP


@pytree
class Chain:
    """Links applied one after another; build it with `chain` or `joint`.

    Attributes:
      links: the links, first to act first.
    """

    links: tuple[Link, ...]

    def __repr__(self):
        return f"chain({', '.join(_describe(link) for link in self.links)})"

    @property
    def head(self) -> tuple[Link, ...]:
        """The links before the first truncation: they act on the row as it lies."""
        return self.links[: self._first_truncation()]

    @property
    def tail(self) -> tuple[Link, ...]:
        """The links from the first truncation on: they act on sorted candidates."""
        return self.links[self._first_truncation() :]

    @property
    def is_mixed(self) -> bool:
        """Whether an edit follows a truncation, which needs the row put back in order."""
        return any(isinstance(link, Edit) for link in self.tail)

    @property
    def is_stochastic(self) -> bool:
        """Whether a link reads the step key."""
        return any(link.stochastic for link in self.links)

    @property
    def observes(self) -> bool:
        """Whether a link's state advances on what it saw of the row."""
        return any(link.observes for link in self.links)

    def _first_truncation(self) -> int:
        kinds = [isinstance(link, Truncation) for link in self.links]
        return kinds.index(True) if True in kinds else len(kinds)

    def init(self, context: Context) -> tuple[Any, ...]:
        """Return the state of each link for one row whose past is `context`."""
        return tuple(link.init(context) for link in self.links)

    def update(self, states: tuple[Any, ...], drawn: Drawn) -> tuple[Any, ...]:
        """Return the state of each link after a token of one row."""
        seen = drawn.seen or ((),) * len(self.links)
        return tuple(
            link.update(state, replace(drawn, seen=what))
            for link, state, what in zip(self.links, states, seen, strict=True)
        )

    def check(self, rows: int, vocab_size: int) -> None:
        """Raise ValueError if a link does not fit the batch or the vocabulary."""
        for link in self.links:
            link.check_vocabulary(vocab_size)
            for name, leaf in _row_leaves(link):
                if np.ndim(leaf) == 1 and np.shape(leaf)[0] != rows:
                    raise ValueError(
                        f"{type(link).__name__}: `{name}` must be a number or one per "
                        f"prompt ({rows}), got {np.shape(leaf)[0]}."
                    )

    def per_row(self, rows: int, repeats: int = 1) -> "Chain":
        """Return the chain with every parameter as a vector [rows * repeats].

        A number and a vector are then the same program.
        """

        def spread(leaf):
            # numpy where it can: an eager jax operation is a program of its own
            of = jax.numpy if check.is_traced(leaf) else np
            return of.repeat(of.broadcast_to(leaf, (rows,)), repeats)

        return Chain(
            tuple(
                replace(
                    link, **{name: spread(leaf) for name, leaf in _row_leaves(link)}
                )
                for link in self.links
            )
        )

    def take(self, rows: jax.Array) -> "Chain":
        """Return the chain of some rows of its batch, given their indices."""

        def of(link):
            leaves = {n: leaf for n, leaf in _row_leaves(link) if np.ndim(leaf)}
            return {n: jax.numpy.asarray(leaf)[rows] for n, leaf in leaves.items()}

        return Chain(tuple(replace(link, **of(link)) for link in self.links))

    def axes(self) -> "Chain":
        """Return the `in_axes` of this chain for a `vmap` over rows."""
        return Chain(tuple(_axes(link) for link in self.links))


def chain(*links: Link | Chain) -> Chain:
    """Put links together, first to act first; chains among them are spelled out.

    With no links at all the token is drawn from the model's own distribution.

    Args:
      *links: `Edit`, `Scale` and `Truncation` links, or chains of them.

    Returns:
      The chain, a pytree: its parameters are leaves, its links and their order are
      structure.

    Raises:
      TypeError: for something that is not a link.
      ValueError: for a link behind one that must be the last.
    """
    flat: list[Link] = []
    for link in links:
        if isinstance(link, Chain):
            flat.extend(link.links)
        elif isinstance(link, (Edit, Scale, Truncation)):
            flat.append(link)
        else:
            hint = f"; write {link.__name__}(...)" if isinstance(link, type) else ""
            raise TypeError(f"chain: every link must be a link, got {link!r}{hint}.")
    for link, after in itertools.pairwise(flat):
        if link.reweighs:
            raise ValueError(
                f"chain: {type(link).__name__} must be the last link, for it gives the "
                f"tokens a new order, got {type(after).__name__} after it."
            )
    return Chain(tuple(flat))


def as_chain(sampler: Link | Chain | None) -> Chain:
    """Return a chain for whatever may be passed as a sampler; None is plain sampling."""
    if isinstance(sampler, Chain):
        return sampler
    return joint() if sampler is None else chain(sampler)


def joint(
    *,
    top_k: Scalar = 0,
    top_p: Scalar = 1.0,
    min_p: Scalar = 0.0,
    temperature: Scalar = 1.0,
    repetition_penalty: Scalar = 1.0,
    frequency_penalty: Scalar = 0.0,
    presence_penalty: Scalar = 0.0,
) -> Chain:
    """Build the joint sampler: penalties, top-k, top-p, min-p, temperature, draw.

    Every call builds the same links, neutral ones included, so that one compiled
    program serves every setting. Each parameter is a number or one per row.

    Args:
      top_k: keep the k best tokens, >= 0; 0 is off. Usual values: 20 to 100.
      top_p: keep the nucleus of this mass, in [0, 1]; 1 is off. Usual: 0.8 to 0.95.
      min_p: keep tokens this fraction as likely as the best, in [0, 1]; 0 is off.
      temperature: >= 0; 1 is neutral, 0 is greedy. Usual values: 0.5 to 1.2.
      repetition_penalty: > 0; 1 is off. Usual values: 1.05 to 1.3.
      frequency_penalty: logits per occurrence in the output; 0 is off.
      presence_penalty: logits for having occurred in the output; 0 is off.

    Returns:
      The chain. The order differs from Hugging Face and vLLM, which put temperature
      before the truncations: the same numbers are another distribution there.

    Raises:
      TypeError: if a value is not a number.
      ValueError: if a value is out of range or NaN.
    """
    return chain(
        RepetitionPenalty(repetition_penalty),
        FrequencyPenalty(frequency_penalty),
        PresencePenalty(presence_penalty),
        TopK(top_k),
        TopP(top_p),
        MinP(min_p),
        Temperature(temperature),
    )


def _row_leaves(link: Link) -> list[tuple[str, Any]]:
    """Return the fields of a link that hold one value per row."""
    return [(f.name, getattr(link, f.name)) for f in _fields(link) if _is_per_row(f)]


def _axes(link: Link) -> Link:
    shared = {
        f.name: jax.tree.map(lambda _: None, getattr(link, f.name))
        for f in _fields(link)
        if f.metadata.get("shared")
    }
    rows = {
        name: 0 if np.ndim(leaf) else None  # a lone number serves every row
        for name, leaf in _row_leaves(link)
    }
    return replace(link, **shared, **rows)


def _fields(link: Link) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(link)  # type: ignore[arg-type]


def _is_per_row(field: dataclasses.Field) -> bool:
    return not (field.metadata.get("shared") or field.metadata.get("static"))


def _describe(link: Link) -> str:
    usual = _defaults(type(link))
    shown = [
        f"{f.name}={_plain(value)}"
        for f in _fields(link)
        if not np.array_equal(value := getattr(link, f.name), usual.get(f.name, ...))
    ]
    return f"{type(link).__name__}({', '.join(shown)})"


@functools.cache
def _defaults(kind: type[Link]) -> dict[str, Any]:
    """Return the field values of a link built without arguments, if it can be."""
    try:
        link = kind()
    except (TypeError, ValueError):
        return {}
    return {f.name: getattr(link, f.name) for f in _fields(link)}


def _plain(value: Any) -> str:
    if isinstance(value, (np.ndarray, jax.Array)) and not check.is_traced(value):
        numbers = np.asarray(value)
        return np.array2string(numbers, separator=", ", precision=6, threshold=8)
    return repr(value)
