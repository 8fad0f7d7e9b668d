"""From what a person typed to what the program takes: checked, padded, per row."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.keys import prompt_keys, sample_keys
from jaxdecode.core.protocol import Model
from jaxdecode.core.shapes import bucket
from jaxdecode.decode.observe import as_wishes
from jaxdecode.decode.prompts import Prompts, as_prompts
from jaxdecode.decode.state import Job
from jaxdecode.decode.stops import as_stops
from jaxdecode.transforms import as_chain
from jaxdecode.transforms.vocabulary import padded_ids


@dataclasses.dataclass(frozen=True)
class Request:
    """A checked call: what to read, what to do, and how wide the result is."""

    prompts: Prompts
    job: Job
    width: int


def prepare(
    who: str,
    model: Model,
    prompts: Any,
    key: Any,
    *,
    sampler: Any,
    max_new_tokens: Any,
    eos_ids: Any,
    pad_id: Any,
    num_samples: int,
    new_tokens_max: int | None = None,
    exact: bool = False,
    stop: Any = None,
    observe: Any = (),
) -> Request:
    """Check the arguments of `generate` and put them in the shapes of a compiled run.

    Args:
      who: the function asking, for the messages.
      model: the model.
      prompts: as in `generate`.
      key: as in `generate`.
      sampler: as in `generate`.
      max_new_tokens: as in `generate`.
      eos_ids: as in `generate`.
      pad_id: as in `generate`.
      num_samples: as in `generate`.
      new_tokens_max: as in `generate`.
      exact: whether the output's width may not be rounded up to a bucket.
      stop: as in `generate`.
      observe: as in `generate`.

    Raises:
      TypeError: for an argument of the wrong kind.
      ValueError: for a value out of range.
    """
    if num_samples is None or np.ndim(num_samples):
        raise TypeError(
            f"{who}: `num_samples` must be an integer, got {num_samples!r}."
        )
    samples = int(check.whole(who, "num_samples", num_samples, low=1))
    read = as_prompts(who, prompts, model.vocab_size, model.max_length)
    count = read.tokens.shape[0]
    budgets = check.whole(who, "max_new_tokens", max_new_tokens, low=1)
    if np.ndim(budgets) and np.shape(budgets) != (count,):
        raise ValueError(
            f"{who}: `max_new_tokens` must be a number or one per prompt ({count}), "
            f"got {np.shape(budgets)[0]}."
        )
    width = _width(who, budgets, new_tokens_max)
    budgets = _within_room(who, read, budgets, model.max_length)
    chain = as_chain(sampler)
    chain.check(count, model.vocab_size)
    columns = width if exact else bucket(width, high=max(width, model.max_length))
    job = Job(
        chain=chain.per_row(count, samples),
        keys=sample_keys(prompt_keys(who, key, count), samples),
        prompt_lengths=_rows(read.lengths, count, samples),
        budgets=_rows(budgets, count, samples),
        eos_ids=_checked_ids(who, "eos_ids", eos_ids, model.vocab_size),
        pad_id=check.whole(who, "pad_id", pad_id, low=0),
        new_tokens_max=columns,
        stops=as_stops(who, stop, model.vocab_size),
        wishes=as_wishes(who, observe, model.vocab_size),
    )
    return Request(read, job, width)


def _width(who: str, budgets: Any, new_tokens_max: int | None) -> int:
    if check.is_traced(budgets):
        if new_tokens_max is None:
            raise ValueError(
                f"{who}: `new_tokens_max` must be given where `max_new_tokens` is "
                "traced, got None."
            )
        return int(check.whole(who, "new_tokens_max", new_tokens_max, low=1))
    wanted = int(np.max(budgets))
    if new_tokens_max is None:
        return wanted
    return int(check.whole(who, "new_tokens_max", new_tokens_max, low=wanted))


def _within_room(who: str, prompts: Prompts, budgets: Any, max_length: int) -> Any:
    """Refuse rows that would outgrow the model; traced ones end at its last position."""
    if prompts.tokens.shape[1] > max_length:
        raise ValueError(
            f"{who}: `prompts` must be at most {max_length} columns wide, the model's "
            f"positions, got {prompts.tokens.shape[1]}."
        )
    traced = check.is_traced(budgets)
    if traced or check.is_traced(prompts.lengths):
        return jnp.minimum(budgets, max_length - prompts.lengths)
    total = np.asarray(prompts.lengths, np.int64) + np.asarray(budgets, np.int64)
    if (total > max_length).any():
        row = int(np.argmax(total))
        raise ValueError(
            f"{who}: prompt + `max_new_tokens` must be <= {max_length}, the model's "
            f"positions, got {total[row]} for prompt {row}."
        )
    return budgets


def _rows(values: Any, count: int, samples: int) -> Any:
    if check.is_traced(values):
        return jnp.repeat(jnp.broadcast_to(values, (count,)), samples)
    return np.repeat(np.broadcast_to(values, (count,)), samples).astype(np.int32)


def _checked_ids(who: str, name: str, ids: Any, vocab_size: int) -> Any:
    if check.is_traced(ids):
        return ids.reshape(-1).astype(jnp.int32)
    found = check.token_ids(who, name, ids)
    check.in_vocabulary(who, name, found, vocab_size)
    return padded_ids(who, name, found)
