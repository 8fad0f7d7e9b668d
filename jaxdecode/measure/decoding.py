"""How fast `generate` is with a given model, and how close to the limit of the memory.

A step must read every weight and the filled part of the cache once, so it takes at least
their bytes divided by the memory's bandwidth, and more where the batch is so large that
arithmetic dominates. Whole calls are timed, host work included. A call for one token and
a call for all tokens run the same program; their difference is the time of the steps.
"""

import dataclasses
import functools
import math
import time
from typing import Any

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.protocol import Model
from jaxdecode.decode import generate
from jaxdecode.measure.timings import interleave
from jaxdecode.native import Panels
from jaxdecode.transforms import Chain, Link, joint

WHO = "measure_decoding"
SAMPLER = {"top_k": 50, "top_p": 0.9, "temperature": 0.8}


@dataclasses.dataclass(frozen=True)
class Decoding:
    """The measurements of one batch size.

    Attributes:
      batch: rows.
      context: prompt tokens of a row.
      new_tokens: new tokens of a row.
      tokens_per_second: new tokens of all rows together, over the whole call.
      step_ms: milliseconds of a step after the first token.
      first_token_ms: milliseconds of a call for one new token of each row.
      prompt_tokens_per_second: prompt tokens of all rows together, over that call.
      fraction_of_limit: the shortest possible time of a step, divided by its time.
      first_call_s: seconds of the first call, which compiles.
    """

    batch: int
    context: int
    new_tokens: int
    tokens_per_second: float
    step_ms: float
    first_token_ms: float
    prompt_tokens_per_second: float
    fraction_of_limit: float
    first_call_s: float


def measure_decoding(
    model: Model,
    *,
    batch: int,
    context: int,
    new_tokens: int,
    rounds: int,
    bandwidth: float,
    sampler: Link | Chain | None = None,
) -> Decoding:
    """Time `generate` on random prompts; no row ends early.

    Args:
      model: anything that satisfies the `Model` protocol.
      batch: rows, >= 1.
      context: prompt tokens of each row, >= 1.
      new_tokens: new tokens of each row, >= 2.
      rounds: how many times each call is timed, >= 1; figures are medians.
      bandwidth: bytes per second that the machine can read.
      sampler: as in `generate`; None is top-k 50, top-p 0.9 and temperature 0.8.

    Returns:
      A `Decoding`.

    Raises:
      TypeError: for an argument of the wrong kind.
      ValueError: for a value out of range, or more tokens than the model has positions.
    """
    for name, value, low in (
        ("batch", batch, 1),
        ("context", context, 1),
        ("new_tokens", new_tokens, 2),
        ("rounds", rounds, 1),
    ):
        check.whole(WHO, name, value, low=low)
    prompts = random_prompts(model.vocab_size, batch, context)
    chain = joint(**SAMPLER) if sampler is None else sampler

    def write(tokens):
        out = generate(
            model,
            prompts,
            0,
            sampler=chain,
            max_new_tokens=tokens,
            new_tokens_max=new_tokens,
        )
        return jax.block_until_ready(out)

    begin = time.perf_counter()
    write(1)
    first_call = time.perf_counter() - begin
    calls = {"one": lambda: write(1), "all": lambda: write(new_tokens)}
    timings = interleave(calls, rounds)
    step = timings.between("one", "all") / (new_tokens - 1)
    least = step_bytes(model, batch, context + new_tokens // 2) / bandwidth
    return Decoding(
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        tokens_per_second=batch * new_tokens / timings.median("all"),
        step_ms=1e3 * step,
        first_token_ms=1e3 * timings.median("one"),
        prompt_tokens_per_second=batch * context / timings.median("one"),
        fraction_of_limit=least / step,
        first_call_s=first_call,
    )


def random_prompts(
    vocab_size: int, batch: int, context: int, seed: int = 0
) -> list[list[int]]:
    """Return token lists whose ids are drawn uniformly from the vocabulary."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, vocab_size, (batch, context)).tolist()


def stored_as(model: Any) -> str:
    """Return the number type of a model's largest array."""
    leaves = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, Panels))
    arrays = [leaf for leaf in leaves if isinstance(leaf, Panels) or _is_array(leaf)]
    if not arrays:
        return "unknown"
    largest = max(arrays, key=lambda leaf: math.prod(leaf.shape))
    return largest.kind if isinstance(largest, Panels) else largest.dtype.name


def step_bytes(model: Model, rows: int, length: int) -> int:
    """Return the bytes of all weights, and of a cache of `length` columns.

    Args:
      model: the model; only its arrays count.
      rows: number of sequences.
      length: filled columns of the cache.
    """
    arrays = [leaf for leaf in jax.tree.leaves(model) if _is_array(leaf)]
    held = jax.eval_shape(functools.partial(model.init_cache, rows, length))
    cache = [math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(held)]
    return sum(leaf.nbytes for leaf in arrays) + sum(cache)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "nbytes")
