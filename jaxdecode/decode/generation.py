"""`generate`: prompts in, tokens out, in one compiled program."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.keys import no_key
from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import pytree, replace
from jaxdecode.core.rows import repeat_rows
from jaxdecode.core.shapes import Array, KeyLike, PerRow, TokenIds, TokenLists
from jaxdecode.decode import steps
from jaxdecode.decode.loops import repeat
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.request import Options, Request, cut_columns, prepare
from jaxdecode.decode.rows import Rows, generated_tokens
from jaxdecode.decode.stops import Stops
from jaxdecode.native import current_platform
from jaxdecode.transforms import Chain, Link


@pytree
class Generation:
    """What was generated; R rows are prompts times samples, prompt-major.

    Attributes:
      tokens: int32 [R, T], generated tokens only, the eos included, then `pad_id`.
      lengths: int32 [R], how many of them are real, the eos counted.
      model_logprobs: float32 [R, T], log-probability of each token under the model's
        own distribution (raw logits); 0 after the end.
      sampling_logprobs: float32 [R, T], the same under the distribution it was drawn
        from, after every link; 0 after the end.
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
      prompt_tokens: int32 [R, P], the prompt of each row, padded on the right.
      prompt_lengths: int32 [R].
      pad_id: int32 (), what fills `tokens` and `sequences`.
    """

    tokens: Array
    lengths: Array
    model_logprobs: Array
    sampling_logprobs: Array
    status: Array
    observations: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    prompt_tokens: Array | None = None
    prompt_lengths: Array | None = None
    pad_id: Array | None = None

    @property
    def sequences(self) -> Array:
        """Each row's prompt, then its generated tokens, then `pad_id`; int32 [R, P + T].

        They are `prompt_lengths + lengths` tokens long.

        Raises:
          ValueError: for pieces of a stream, which do not hold their prompts.
        """
        if self.prompt_tokens is None or self.prompt_lengths is None:
            raise ValueError(
                "sequences: a piece of a stream does not hold its prompts."
            )
        of: Any = jnp if check.is_traced(self.tokens) else np
        given, new = of.asarray(self.prompt_tokens), of.asarray(self.tokens)
        width = given.shape[-1] + new.shape[-1]
        begin, real = self.prompt_lengths[..., None], self.lengths[..., None]
        place = of.broadcast_to(
            np.arange(width, dtype=np.int32), (*self.lengths.shape, width)
        )
        place_new = of.clip(place - begin, 0, new.shape[-1] - 1)
        old = of.take_along_axis(given, of.clip(place, 0, given.shape[-1] - 1), axis=-1)
        joined = of.where(
            place < begin, old, of.take_along_axis(new, place_new, axis=-1)
        )
        return of.where(place < begin + real, joined, self.pad_id)

    def by_prompt(self, num_samples: int) -> "Generation":
        """Return the same with an axis of samples: leaves [B, num_samples, ...].

        Args:
          num_samples: what `generate` was asked for.

        Raises:
          ValueError: if R is not a multiple of it.
        """
        rows = self.lengths.shape[0]
        if num_samples < 1 or rows % num_samples:
            raise ValueError(
                "by_prompt: `num_samples` must be a divisor of the number of rows "
                f"({rows}), got {num_samples}."
            )

        def apart(leaf):
            if not leaf.ndim:
                return leaf
            return leaf.reshape(rows // num_samples, num_samples, *leaf.shape[1:])

        return jax.tree.map(apart, self)

    @property
    def mask(self) -> Array:
        """Whether each column holds a real token, bool [R, T]."""
        shape = (1,) * self.lengths.ndim + self.tokens.shape[-1:]
        columns = np.arange(shape[-1], dtype=np.int32).reshape(shape)
        return columns < self.lengths[..., None]


def generate(
    model: Model,
    prompts: TokenLists,
    key: KeyLike,
    *,
    sampler: Link | Chain | None = None,
    max_new_tokens: PerRow = 64,
    eos_ids: TokenIds | None = None,
    pad_id: int = 0,
    num_samples: int = 1,
    stop: Sequence[Sequence[int]] | Stops | None = None,
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
      prompts: token lists, or (int32 [B, P] padded on the right, lengths int32 [B]), or
        a tokenizer's {"input_ids", "attention_mask"}, padded on either side.
      key: one key, of which row b takes `fold_in(key, b)`, also where there is one row
        only; or keys [B], taken as they are. A seed in [0, 2**32 - 1] stands for
        `jax.random.key(seed)`, and B seeds, in a list or an array, for B keys, so that 7
        and [7] name different texts. Row b of a batch alone: `[fold_in(key, b)]`. A
        traced seed counts modulo 2**32. Consumed.
      sampler: a chain or a link, its parameters a number or one per prompt; None draws
        from the model's own distribution. Greedy is `joint(temperature=0)`. A row with a
        parameter that turns out, inside a `jit`, to be out of range is INVALID.
      max_new_tokens: >= 1, a number or one per prompt.
      eos_ids: ids that end a row: one, several or None.
      pad_id: what fills the columns after a row's end.
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
    check_model("generate", model)
    check.choice("generate", "loop", loop, ("while", "scan"))
    options = Options(
        sampler=sampler,
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids,
        pad_id=pad_id,
        num_samples=num_samples,
        stop=stop,
        observe=observe,
        new_tokens_max=new_tokens_max,
    )
    request = _prepare("generate", model, prompts, key, options, loop)
    arguments, static = _arguments(request, loop)
    result = cut_columns(_run(model, *arguments, **static), width=request.width)
    given = repeat_rows(request.prompts, num_samples)
    return replace(
        result,
        prompt_tokens=given.tokens[:, : _width_of(prompts, given)],
        prompt_lengths=given.lengths,
        pad_id=request.pad_id,
    )


def generate_for(
    platform: Platform,
    model: Model,
    prompts: TokenLists,
    key: KeyLike,
    **options: Unpack[Options],
) -> Generation:
    """Do what `generate` does, inside a program for another platform."""
    request = _prepare("export", model, prompts, key, options, "while")
    arguments, static = _arguments(request, "while", platform)
    return cut_columns(_run(model, *arguments, **static), width=request.width)


def trace(
    model: Any,
    prompts: TokenLists,
    key: KeyLike,
    *,
    loop: str = "while",
    platform: Platform | None = None,
    **options: Unpack[Options],
) -> jax.stages.Traced:
    """Return the program that `generate` would run, traced: to be read, not run.

    `trace(...).lower().compile().memory_analysis()` says what a run needs. Arrays of the
    model may be `jax.ShapeDtypeStruct`, so that no weights need be in memory.

    Args:
      model: as in `generate`.
      prompts: as in `generate`.
      key: as in `generate`.
      loop: as in `generate`.
      platform: what to compile for; None is this process's.
      **options: as in `generate`.

    Raises:
      TypeError: as `generate`.
      ValueError: as `generate`.
    """
    check_model("trace", model)
    check.choice("trace", "loop", loop, ("while", "scan"))
    request = _prepare("trace", model, prompts, key, options, loop)
    arguments, static = _arguments(request, loop, platform)
    return _run.trace(model, *arguments, **static)


def collect(rows: Rows, pad_id: Any) -> Generation:
    """Return what rows hold, started ones and finished ones."""
    return Generation(
        tokens=generated_tokens(rows, pad_id),
        lengths=rows.length - rows.prompt_length,
        model_logprobs=rows.model_logprobs,
        sampling_logprobs=rows.sampling_logprobs,
        status=rows.status.astype(jnp.int8),
        observations=rows.observed,
    )


def _width_of(prompts: Any, given: Prompts) -> int:
    """Return how many columns the prompts have, without those of their bucket."""
    if isinstance(prompts, tuple) and np.ndim(prompts[0]) == 2:
        return prompts[0].shape[1]
    if check.is_traced(given.lengths):
        return given.tokens.shape[1]
    return int(np.max(given.lengths))


def _prepare(who, model, prompts, key, options: Options, loop: str) -> Request:
    if key is None:
        raise no_key(who)
    return prepare(who, model, prompts, key, options, exact=loop == "scan")


def _arguments(request: Request, loop: str, platform: Platform | None = None):
    arguments = (request.prompts, request.rows, request.pad_id)
    static = {
        "new_tokens_max": request.new_tokens_max,
        "loop": loop,
        "platform": platform or current_platform(),
    }
    return arguments, static


@compiled(static=("new_tokens_max", "loop", "platform"))
def _run(
    model: Model,
    prompts: Prompts,
    rows: Rows,
    pad_id: Any,
    *,
    new_tokens_max: int,
    loop: str,
    platform: Platform,
) -> Generation:
    reversible = loop == "scan"
    rows = steps.start(
        model,
        prompts,
        rows,
        new_tokens_max=new_tokens_max,
        platform=platform,
        reversible=reversible,
    )

    if reversible:

        def step(rows):
            return steps.step(model, rows, platform=platform, reversible=True)

        rows = repeat(step, rows, new_tokens_max)
    else:
        width = prompts.tokens.shape[1]
        rows = steps.finish(model, rows, width=width, platform=platform)
    return collect(rows, pad_id)
