"""Compiling ahead, so that the first request does not wait for it."""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.protocol import Model
from jaxdecode.core.shapes import bucket
from jaxdecode.decode.generation import generate
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.request import Options


@dataclasses.dataclass(frozen=True)
class WarmedUp:
    """One program that is ready.

    Attributes:
      rows: prompts of a call.
      prompt_length: longest prompt that it takes.
      new_tokens: longest continuation.
      seconds: how long it took, a first token included; near 0 if it was ready before.
    """

    rows: int
    prompt_length: int
    new_tokens: int
    seconds: float


def warm_up(
    model: Model,
    *,
    rows: int | Sequence[int] = 1,
    prompt_lengths: int | Sequence[int] = 16,
    new_tokens: int | Sequence[int] = 64,
    **options: Unpack[Options],
) -> list[WarmedUp]:
    """Compile what later calls of `generate` need, by writing one token with each.

    There is a program for each number of rows, bucket of prompt lengths (16, 32, 64, ...)
    and bucket of `max_new_tokens` (likewise): all combinations of those named here are
    made ready. A later call must have the same links, `num_samples`, `observe` and kind
    of `stop`; their values may differ.

    Args:
      model: as in `generate`.
      rows: prompts of a call, >= 1; one number or several.
      prompt_lengths: tokens of a prompt, >= 1; one number or several.
      new_tokens: tokens to write, >= 1; one number or several.
      **options: as in `generate`, but for `max_new_tokens` and `new_tokens_max`.

    Returns:
      What was compiled, in order, with the seconds it took.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for values out of range, or a prompt with its new tokens beyond the
        model's length.
    """
    check_model("warm_up", model)
    for name in ("max_new_tokens", "new_tokens_max"):
        if name in options:
            raise TypeError(f"warm_up: `{name}` must be given as `new_tokens`.")
    counts = sorted(set(_sizes("rows", rows)))
    lengths = _one_per_bucket(_sizes("prompt_lengths", prompt_lengths), model)
    widths = _one_per_bucket(_sizes("new_tokens", new_tokens), model)
    if lengths[-1] + widths[-1] > model.max_length:
        raise ValueError(
            f"warm_up: prompt + `new_tokens` must be <= {model.max_length}, the model's "
            f"positions, got {lengths[-1]} + {widths[-1]}."
        )
    sizes = itertools.product(counts, lengths, widths)
    return [_compile(model, *each, options) for each in sizes]


def _compile(
    model: Model, rows: int, length: int, width: int, options: Options
) -> WarmedUp:
    prompts = np.zeros((rows, length), np.int32)
    asked: Any = {**options, "max_new_tokens": 1, "new_tokens_max": width}
    start = time.perf_counter()
    jax.block_until_ready(generate(model, prompts, 0, **asked).tokens)
    return WarmedUp(rows, length, width, time.perf_counter() - start)


def _sizes(name: str, given: int | Sequence[int]) -> list[int]:
    found = np.atleast_1d(check.whole("warm_up", name, given, low=1))
    if not found.size:
        raise ValueError(f"warm_up: `{name}` must name at least one size, got none.")
    return found.tolist()


def _one_per_bucket(sizes: list[int], model: Model) -> list[int]:
    """Return the largest size of each bucket."""
    largest = {bucket(n, high=max(n, model.max_length)): n for n in sorted(sizes)}
    return sorted(largest.values())
