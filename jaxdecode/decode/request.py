"""From what a person typed to rows that can be started: checked and padded."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.keys import prompt_keys, sample_keys
from jaxdecode.core.processes import in_every_process
from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import replace
from jaxdecode.core.rows import Bank, repeat_rows
from jaxdecode.core.shapes import KeyLike, PerRow, TokenIds, TokenLists, bucket
from jaxdecode.decode.observables import as_observables
from jaxdecode.decode.prompts import Prompts, as_prompts
from jaxdecode.decode.rows import Rows
from jaxdecode.decode.stops import Stops, as_stops
from jaxdecode.transforms import Chain, Link, as_chain, chain
from jaxdecode.transforms.vocabulary import padded_ids

T = TypeVar("T")


class Options(TypedDict, total=False):
    """What a generation may be asked for beyond model, prompts and key.

    `jaxdecode.generate` says what each of them means; its defaults are theirs.
    """

    sampler: Link | Chain | None
    max_new_tokens: PerRow
    eos_ids: TokenIds | None
    pad_id: int
    num_samples: int
    stop: Sequence[Sequence[int]] | Stops | None
    observe: Sequence[str]
    new_tokens_max: int | None


DEFAULTS = Options(
    sampler=None,
    max_new_tokens=64,
    eos_ids=None,
    pad_id=0,
    num_samples=1,
    stop=None,
    observe=(),
    new_tokens_max=None,
)


@dataclasses.dataclass(frozen=True)
class Request:
    """A checked call.

    Attributes:
      prompts: B of them.
      rows: what was asked for, B * num_samples rows, not started.
      pad_id: what fills the columns after the end of a row.
      new_tokens_max: columns of the compiled program's result.
      width: how many of these are wanted.
    """

    prompts: Prompts
    rows: Rows
    pad_id: Any
    new_tokens_max: int
    width: int


def prepare(
    who: str,
    model: Model,
    prompts: TokenLists | Prompts,
    key: KeyLike | None,
    options: Options,
    *,
    exact: bool = False,
) -> Request:
    """Check what `generate` was given and put it in the shapes of a compiled run.

    Args:
      who: the function that was called, for the messages.
      model: the model.
      prompts: as in `generate`, or checked already.
      key: as in `generate`; None for a search that draws nothing.
      options: those given; the others take their defaults.
      exact: whether the result's width may not be rounded up to a bucket.

    Raises:
      TypeError: for an argument of the wrong kind.
      ValueError: for a value out of range.
    """
    check.names(who, options, DEFAULTS)
    asked: dict[str, Any] = {**DEFAULTS, **options}
    samples = count_of(who, "num_samples", asked["num_samples"])
    if not isinstance(prompts, Prompts):
        prompts = as_prompts(who, prompts, model.vocab_size, model.max_length)
    count = prompts.tokens.shape[0]
    budget = check.whole(who, "max_new_tokens", asked["max_new_tokens"], low=1)
    if np.ndim(budget) and np.shape(budget) != (count,):
        raise ValueError(
            f"{who}: `max_new_tokens` must be a number or one per prompt ({count}), "
            f"got {np.shape(budget)[0]}."
        )
    width = _width(who, budget, asked["new_tokens_max"])
    budget = _within_room(who, prompts, budget, model.max_length, width)
    # Without a sampler the program has no links, and is compiled in half the time.
    links = chain() if asked["sampler"] is None else as_chain(asked["sampler"])
    links.check(count, model.vocab_size)
    stops = as_stops(who, asked["stop"], model.vocab_size)
    ends = _checked_ids(who, "eos_ids", asked["eos_ids"], model.vocab_size)
    links.check_request(model.vocab_size, budget, ends)
    rows = Rows(
        chain=links.per_row(count),
        key=None,
        prompt_length=_per_row(prompts.lengths, count),
        budget=_per_row(budget, count),
        ends=_per_row(ends[None], count),
        stops=None if stops is None else Bank.of(stops, count),
        observables=as_observables(who, asked["observe"], model.vocab_size),
    )
    rows = repeat_rows(rows, samples)
    if key is not None:
        keys = sample_keys(prompt_keys(who, key, count), samples)
        rows = replace(rows, key=keys)
    return Request(
        prompts=prompts,
        rows=rows,
        pad_id=check.whole(who, "pad_id", asked["pad_id"], low=0),
        new_tokens_max=width
        if exact
        else bucket(width, high=max(width, model.max_length)),
        width=width,
    )


def count_of(who: str, name: str, value: Any) -> int:
    """Return an integer of at least 1 that is known outside the program."""
    if value is None or check.is_traced(value) or np.ndim(value):
        raise TypeError(
            f"{who}: `{name}` must be an integer, known outside the program, "
            f"got {check.short(value)}."
        )
    return int(check.whole(who, name, value, low=1))


def cut_columns(result: T, *, width: int, rows: int | None = None) -> T:
    """Cut a result's leaves to the columns, and beams, that were asked for.

    Args:
      result: leaves [R], [R, N, ...]; for beams [B, K] and [B, K, N].
      width: how many columns are wanted.
      rows: how many beams are wanted; None where there are none.
    """
    limits = (width,) if rows is None else (rows, width)

    def cut(leaf):
        small = (slice(None), *map(slice, limits))[: leaf.ndim]
        sizes = zip(leaf.shape[1:], limits, strict=False)
        if all(size <= limit for size, limit in sizes):
            return leaf
        if check.is_traced(leaf) or _is_spread(leaf):
            return leaf[small]
        # A slice on the device would be a program of its own for each width.
        return jax.device_put(np.asarray(leaf)[small])

    return jax.tree.map(cut, in_every_process(result))


def _is_spread(leaf: jax.Array) -> bool:
    """Whether an array lies on several devices, where it is to stay."""
    return len(leaf.sharding.device_set) > 1


def _width(who: str, budget: Any, new_tokens_max: int | None) -> int:
    if check.is_traced(budget):
        if new_tokens_max is None:
            raise ValueError(
                f"{who}: `new_tokens_max` must be given where `max_new_tokens` is "
                "traced, got None."
            )
        return int(check.whole(who, "new_tokens_max", new_tokens_max, low=1))
    wanted = int(np.max(budget))
    if new_tokens_max is None:
        return wanted
    return int(check.whole(who, "new_tokens_max", new_tokens_max, low=wanted))


def _within_room(
    who: str, prompts: Prompts, budget: Any, max_length: int, width: int
) -> Any:
    """Refuse rows that would outgrow the model; traced ones end where room ends."""
    if prompts.tokens.shape[1] > max_length:
        raise ValueError(
            f"{who}: `prompts` must be at most {max_length} columns wide, the model's "
            f"positions, got {prompts.tokens.shape[1]}."
        )
    traced = check.is_traced(budget)
    if traced or check.is_traced(prompts.lengths):
        budget = jnp.minimum(budget, width) if traced else budget
        return jnp.minimum(budget, max_length - prompts.lengths)
    total = np.asarray(prompts.lengths, np.int64) + np.asarray(budget, np.int64)
    if (total > max_length).any():
        row = int(np.argmax(total))
        raise ValueError(
            f"{who}: prompt + `max_new_tokens` must be <= {max_length}, the model's "
            f"positions, got {total[row]} for prompt {row}."
        )
    return budget


def _per_row(values: Any, count: int) -> Any:
    """Return a value, or one per row, as one per row."""
    of = jnp if check.is_traced(values) else np
    return of.broadcast_to(values, (count, *np.shape(values)[1:])).astype(np.int32)


def _checked_ids(who: str, name: str, ids: Any, vocab_size: int) -> Any:
    if check.is_traced(ids):
        return ids.reshape(-1).astype(jnp.int32)
    found = check.token_ids(who, name, ids)
    check.in_vocabulary(who, name, found, vocab_size)
    return padded_ids(who, name, found)
