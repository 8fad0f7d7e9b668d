"""`generate`: prompts in, tokens out, in one compiled program."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Array
from jaxdecode.decode import loop as loops
from jaxdecode.decode.partition import Fixed, combine, partition
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.request import Request, prepare
from jaxdecode.decode.state import Job, State, new_tokens
from jaxdecode.transforms import Chain, Link


@pytree
class Generation:
    """What was generated; R rows are prompts times samples, prompt-major.

    Attributes:
      tokens: int32 [R, T], generated tokens only, the eos included, then `pad_id`.
      lengths: int32 [R], how many of them are real, the eos counted.
      model_logprobs: float32 [R, T], log-probability of each token under the model's
        own distribution (raw logits); 0 behind the end.
      sampling_logprobs: float32 [R, T], the same under the distribution it was drawn
        from, after every link; 0 behind the end.
      status: int8 [R], a `Status`: why the row ended.
      observations: what was asked for with `observe`, by name; empty otherwise. Of the
        model's own distribution (raw logits): "entropy" float32 [R, T] in nats, "rank"
        int32 [R, T] of the drawn token, 1 for the best, ties in the order of ids, and
        "top_logprobs" float32 [R, T, n], best first, with "top_ids" int32 [R, T, n]. The
        same of the distribution the token was drawn from: "sampling_entropy",
        "sampling_rank", "sampling_top_logprobs", "sampling_top_ids", whose id is -1
        where fewer than n tokens are left. "kept" int32 [R, T] is how many tokens the
        links left, "kept_mass" float32 [R, T] what the model gives them together.
        Behind the end all are 0, ids -1.
    """

    tokens: Array
    lengths: Array
    model_logprobs: Array
    sampling_logprobs: Array
    status: Array
    observations: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def generate(
    model: Any,
    prompts: Any,
    key: Any,
    *,
    sampler: Link | Chain | None = None,
    max_new_tokens: Any = 64,
    eos_ids: Any = None,
    pad_id: Any = 0,
    num_samples: int = 1,
    stop: Any = None,
    observe: Sequence[str] = (),
    loop: str = "while",
    new_tokens_max: int | None = None,
) -> Generation:
    """Continue prompts, one token at a time, in one compiled program.

    The token at position t of row (b, s) is
    `jax.random.categorical(fold_in(fold_in(keys[b], s), t), row)` for the row of logits
    after every link: it does not depend on the batch, the padding, or on whether the
    text was made in one call or resumed from a longer prompt.

    Recompiles for another model structure, number of rows, bucket of prompt length
    (16, 32, 64, ...) or of `max_new_tokens` (likewise), links, `num_samples`, `observe`
    or `loop`; never for other values. Works inside the caller's `jit` and `vmap`, with
    prompts as a pair of arrays.

    Args:
      model: anything that satisfies the `Model` protocol.
      prompts: token lists, or (int32 [B, P] padded on the right, lengths int32 [B]).
      key: one key (row b takes `fold_in(key, b)`), keys [B], or a seed or seeds in
        [0, 2**32 - 1]; consumed.
      sampler: a chain or a link, its parameters a number or one per prompt; None draws
        from the model's own distribution. Greedy is `joint(temperature=0)`.
      max_new_tokens: >= 1, a number or one per prompt.
      eos_ids: ids that end a row: one, several or None.
      pad_id: what stands behind a row's end.
      num_samples: continuations per prompt, >= 1; each prompt is read once. Static.
      stop: what else ends a row: lists of token ids, looked for in the generated tokens
        only, or `Stops`, which may hold strings. The stop is part of the output. A stop
        completed within the first n tokens of a `MinNewTokens(n, ...)` does not count.
        None or not is structure; others of about the same size do not recompile.
      observe: what to report of every step (see `Generation.observations`), by name:
        "entropy", "kept", "kept_mass", "rank", "top_logprobs:5". Static.
      loop: "while" ends as soon as every row has; "scan" takes a fixed number of steps
        and can be differentiated in reverse. Static.
      new_tokens_max: columns of the output; only needed where `max_new_tokens` is
        traced. Static.

    Returns:
      A `Generation` with T = max(max_new_tokens), or `new_tokens_max` if given.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for values out of range: empty prompts, ids outside the vocabulary, a
        prompt with its new tokens beyond the model's length, parameters that do not fit
        the batch. All before anything compiles.
    """
    arrays, fixed = partition(model)
    check.choice("generate", "loop", loop, ("while", "scan"))
    request = prepare(
        "generate",
        model,
        prompts,
        key,
        sampler=sampler,
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids,
        pad_id=pad_id,
        num_samples=num_samples,
        new_tokens_max=new_tokens_max,
        exact=loop == "scan",
        stop=stop,
        observe=observe,
    )
    result = _run(arrays, request.prompts, request.job, fixed=fixed, loop=loop)
    return _cut(result, request)


def trace(
    model: Any,
    prompts: Any,
    key: Any,
    *,
    sampler: Link | Chain | None = None,
    max_new_tokens: Any = 64,
    eos_ids: Any = None,
    num_samples: int = 1,
    loop: str = "while",
) -> jax.stages.Traced:
    """Return the program that `generate` would run, traced: to be read, not run.

    `trace(...).lower().compile().memory_analysis()` says what a run needs.

    Args:
      model: as in `generate`.
      prompts: as in `generate`.
      key: as in `generate`.
      sampler: as in `generate`.
      max_new_tokens: as in `generate`.
      eos_ids: as in `generate`.
      num_samples: as in `generate`.
      loop: as in `generate`.

    Raises:
      TypeError: as `generate`.
      ValueError: as `generate`.
    """
    arrays, fixed = partition(model)
    check.choice("trace", "loop", loop, ("while", "scan"))
    request = prepare(
        "trace",
        model,
        prompts,
        key,
        sampler=sampler,
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids,
        pad_id=0,
        num_samples=num_samples,
        exact=loop == "scan",
    )
    return _run.trace(arrays, request.prompts, request.job, fixed=fixed, loop=loop)


@functools.partial(jax.jit, static_argnames=("fixed", "loop"))
def _run(arrays, prompts: Prompts, job: Job, *, fixed: Fixed, loop: str) -> Generation:
    model = combine(arrays, fixed)
    state = loops.start(model, prompts, job, reversible=loop == "scan")
    if loop == "scan":
        state = loops.run_scan(model, job, state)
    else:
        state = loops.run_while(
            model, job, state, until=job.new_tokens_max, steps=steps_per_look()
        )
    return collect(job, state)


def collect(job: Job, state: State) -> Generation:
    """Return what a finished state holds."""
    return Generation(
        tokens=new_tokens(job, state, job.new_tokens_max),
        lengths=state.lengths - job.prompt_lengths,
        model_logprobs=state.model_logprobs,
        sampling_logprobs=state.sampling_logprobs,
        status=state.status.astype(jnp.int8),
        observations=state.observed,
    )


def steps_per_look() -> int:
    """Return how many tokens to draw between two looks at whether all rows have ended.

    On an accelerator each look is a round trip to the host; on CPU it costs nothing.
    """
    return 1 if jax.default_backend() == "cpu" else 8


def _cut(result: Generation, request: Request) -> Generation:
    """Cut the output's bucket to the columns that were asked for.

    Outside a trace this goes through numpy: a device slice would be a program for each
    width.
    """
    width = request.width
    if width == request.job.new_tokens_max:
        return result

    def cut(leaf):
        if leaf.ndim == 1:
            return leaf
        if check.is_traced(leaf):
            return leaf[:, :width]
        return jax.device_put(np.asarray(leaf)[:, :width])

    return jax.tree.map(cut, result)
