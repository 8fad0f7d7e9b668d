"""A chain: links in the order in which they act, and the usual ones put together.

The order is the user's; nothing is moved behind their back. What a chain holds is its
structure: the classes, their order, and static fields. Everything else is data.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree, replace
from jaxdecode.core.rows import Bank, repeat_rows, resolve_banks
from jaxdecode.core.shapes import INT32_MAX, PerRow
from jaxdecode.transforms.base import Edit, Link, Scale, Truncation, observes, reweighs
from jaxdecode.transforms.context import Context, Drawn
from jaxdecode.transforms.penalties import (
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
)
from jaxdecode.transforms.saving import arguments, build_links, describe_links
from jaxdecode.transforms.scale import Temperature
from jaxdecode.transforms.truncation import MinP, TopK, TopP

LINE = 200  # characters of a value where a chain is shown


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
        return self.links[: self._first_cut()]

    @property
    def tail(self) -> tuple[Link, ...]:
        """The links from the first truncation on: they act on sorted candidates."""
        return self.links[self._first_cut() :]

    @property
    def cuts(self) -> tuple[Truncation, ...]:
        """The truncations."""
        return tuple(link for link in self.links if isinstance(link, Truncation))

    @property
    def is_mixed(self) -> bool:
        """Whether an edit follows a truncation: the row is then put back in order."""
        return any(isinstance(link, Edit) for link in self.tail)

    @property
    def is_stochastic(self) -> bool:
        """Whether a link reads the step key."""
        return any(link.stochastic for link in self.links)

    @property
    def observes(self) -> bool:
        """Whether a link's state depends on what it saw of the row."""
        return any(observes(link) for link in self.links)

    def _first_cut(self) -> int:
        kinds = [isinstance(link, Truncation) for link in self.links]
        return kinds.index(True) if True in kinds else len(kinds)

    def init(self, context: Context) -> tuple[Any, ...]:
        """Return the state of each link for one row whose past is `context`."""
        return tuple(link.init(context) for link in self.links)

    def update(self, states: tuple[Any, ...], drawn: Drawn) -> tuple[Any, ...]:
        """Return the state of each link after a token of one row."""
        seen = drawn.seen or (None,) * len(self.links)
        return tuple(
            link.update(state, replace(drawn, seen=what))
            for link, state, what in zip(self.links, states, seen, strict=True)
        )

    def earliest_end(self, context: Context) -> Any:
        """Return how many tokens of one row must be generated before it may end."""
        ends = [link.earliest_end(context) for link in self.links]
        return functools.reduce(jax.numpy.maximum, ends, 0)

    def check(self, rows: int, vocab_size: int) -> None:
        """Raise ValueError if a link does not fit the batch or the vocabulary."""
        for link in self.links:
            if _tables_max(link) == 1:  # several were checked one by one
                resolve_banks(link).check_vocabulary(vocab_size)
            for name, leaf in _row_leaves(link):
                if np.ndim(leaf) == 1 and np.shape(leaf)[0] != rows:
                    raise ValueError(
                        f"{type(link).__name__}: `{name}` must be a number or one per "
                        f"prompt ({rows}), got {np.shape(leaf)[0]}."
                    )

    def is_sound(self, rows: int) -> jax.Array:
        """Whether every parameter of each row is in its range, bool [R].

        Of a chain that `per_row` made. Those known outside a program were checked when
        the links were built.
        """
        leaves = [leaf for link in self.links for _, leaf in _row_leaves(link)]
        numbers = [x for x in leaves if x is not None and x.dtype != bool]
        marks = [check.is_marked(jax.numpy.asarray(leaf)) for leaf in numbers]
        nothing = jax.numpy.zeros((rows,), bool)
        return ~functools.reduce(jax.numpy.logical_or, marks, nothing)

    def check_request(
        self, vocab_size: int, budget: Any = None, ends: Any = None
    ) -> None:
        """Raise ValueError if a link cannot serve a request: `Link.check_request`."""
        for link in self.links:
            link.check_request(vocab_size, budget, ends)

    def per_row(self, rows: int, repeats: int = 1) -> "Chain":
        """Return the chain of `rows * repeats` rows, copies of a row side by side.

        Every parameter becomes a vector: a number and a vector are then the same
        program. A shared table becomes a `core.rows.Bank` with one table and an entry
        per row: `take_rows`, `put_rows` and `own_tables` then work on the chain.
        """
        return Chain(tuple(_per_row(link, rows, repeats) for link in self.links))

    def to_dict(self) -> dict[str, Any]:
        """Return the chain as plain data, for `json.dumps` and the like.

        `Chain.from_dict(sampler.to_dict())` is an equal chain.

        Returns:
          `{"version": 1, "links": [{"link": "TopK", "k": 50, ...}, ...]}`.

        Raises:
          TypeError: for values known only inside a `jit`.
        """
        return describe_links(self.links)

    @staticmethod
    def from_dict(data: Mapping[str, Any], links: Iterable[type[Link]] = ()) -> "Chain":
        """Return the chain that `to_dict` described.

        Args:
          data: what `to_dict` returned, also after a journey through JSON. Arguments
            may be left out where the link has a default.
          links: classes of your own that may occur.

        Raises:
          TypeError: for data of another form.
          ValueError: for another version, an unknown link or argument, or a bad value,
            by name.
        """
        return chain(*build_links(data, links=links))


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
      ValueError: for a link after one that must be the last.
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
        if reweighs(link):
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
    top_k: PerRow = 0,
    top_p: PerRow = 1.0,
    min_p: PerRow = 0.0,
    temperature: PerRow = 1.0,
    repetition_penalty: PerRow = 1.0,
    frequency_penalty: PerRow = 0.0,
    presence_penalty: PerRow = 0.0,
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


def to_dict(sampler: Link | Chain) -> dict[str, Any]:
    """Return a chain or a link as plain data: `Chain.to_dict` of it.

    Raises:
      TypeError: for something that is not a link, or for values known only inside a
        `jit`.
    """
    return as_chain(sampler).to_dict()


def from_dict(data: Mapping[str, Any], *, links: Iterable[type[Link]] = ()) -> Chain:
    """Return the chain that `to_dict` described: `Chain.from_dict`."""
    return Chain.from_dict(data, links)


def _row_leaves(link: Link) -> list[tuple[str, Any]]:
    """Return the fields of a link that hold one value per row, by name."""
    found = []
    for field in _fields(link):
        value = getattr(link, field.name)
        if isinstance(value, Bank):
            found.append((field.name, value.entry))
        elif not field.metadata.get("shared"):
            found.append((field.name, value))
    return found


def _per_row(link: Link, rows: int, repeats: int) -> Link:
    def spread(field, value):
        if value is None:
            return None
        if isinstance(value, Bank):
            return repeat_rows(value, repeats)
        if field.metadata.get("shared"):
            return Bank.of(_arrays(value), rows * repeats)
        # numpy where it can: an eager jax operation is a program of its own
        of = jax.numpy if check.is_traced(value) else np
        return of.repeat(of.broadcast_to(value, (rows,)), repeats)

    return replace(
        link, **{f.name: spread(f, getattr(link, f.name)) for f in _fields(link)}
    )


def _arrays(table: Any) -> Any:
    kinds = (np.ndarray, jax.Array)
    return jax.tree.map(lambda x: x if isinstance(x, kinds) else np.asarray(x), table)


def _tables_max(link: Link) -> int:
    banks = [v for v in vars(link).values() if isinstance(v, Bank)]
    sizes = [np.shape(x)[0] for bank in banks for x in jax.tree.leaves(bank.tables)]
    return max(sizes, default=1)


def _fields(link: Link) -> list[dataclasses.Field]:
    """Return the fields of a link that are not static."""
    fields = dataclasses.fields(link)  # type: ignore[arg-type]
    return [field for field in fields if not field.metadata.get("static")]


def _describe(link: Link) -> str:
    usual = _defaults(type(link))
    shown = [
        f"{f.name}={_plain(value)}"
        for f in arguments(link)
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
    return {f.name: getattr(link, f.name) for f in arguments(link)}


def _plain(value: Any) -> str:
    """Return a value in a line: tables, which may be large, are only named."""
    if isinstance(value, (np.ndarray, jax.Array)) and not check.is_traced(value):
        numbers = np.asarray(value)
        if numbers.ndim > 1:
            return f"{numbers.dtype}{list(numbers.shape)}"
        if numbers.ndim and np.issubdtype(numbers.dtype, np.integer):
            numbers = numbers[numbers != INT32_MAX]
        return np.array2string(
            numbers, separator=", ", precision=6, threshold=8, max_line_width=LINE
        )
    shown = repr(value)
    is_short = len(shown) <= LINE and "\n" not in shown
    return shown if is_short else f"{type(value).__name__}(...)"
