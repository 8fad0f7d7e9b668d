"""`score`: how likely given continuations are, under the model and under a sampler.

Prompts and continuations are read once, as one text; the sampler is then replayed over
the logits, token by token, with the state it would have had. Teacher-forced, so it can
be differentiated with respect to the model. In ordinary Python, for one row:

    logits = model(prompt + continuation)
    for t, token in enumerate(continuation):
        raw = logits[len(prompt) + t - 1]
        row = raw after every link, whose states know prompt + continuation[:t]
        model_logprobs[t], sampling_logprobs[t] = log p(token) under raw, under row
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.keys import prompt_keys, sample_keys, step_keys
from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model, logits_of
from jaxdecode.core.pytree import pytree
from jaxdecode.core.rows import repeat_rows
from jaxdecode.core.shapes import Array, KeyLike, TokenLists
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.prefilling import prefill
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts, as_prompts
from jaxdecode.native import current_platform
from jaxdecode.sampling import init_rows, observe, process_seen, update_rows
from jaxdecode.sampling.stats import logprobs_of
from jaxdecode.transforms import Chain, Context, Drawn, Link, as_chain


@pytree
class Score:
    """How likely continuations are; R rows.

    Attributes:
      model_logprobs: float32 [R, T], log-probability of each token under the model's own
        distribution (raw logits); 0 after the end.
      sampling_logprobs: float32 [R, T], the same under the sampler, after every link;
        -inf for a token that it would not have drawn; 0 after the end.
      lengths: int32 [R], how many tokens were scored.
    """

    model_logprobs: Array
    sampling_logprobs: Array
    lengths: Array


def score(
    model: Model,
    prompts: TokenLists,
    continuations: TokenLists,
    *,
    sampler: Link | Chain | None = None,
    key: KeyLike | None = None,
) -> Score:
    """Return the log-probabilities of given continuations, teacher-forced.

    Differentiable with respect to the model's arrays and the sampler's parameters (not
    through what a truncation keeps, which is piecewise constant). For the output of
    `generate` with the same sampler and key, `sampling_logprobs` are equal to its own up
    to rounding, so an importance ratio is 1:
    `score(model, prompts, (out.tokens, out.lengths), sampler=sampler)`.

    Every row of logits is sorted whole where the sampler truncates, and the logits
    [R, T, V] are kept at once.

    Recompiles for another model structure, number of rows, bucket of prompt or
    continuation length, or links; never for other values. Works inside the caller's
    `jit`, `vmap` and `grad`, with prompts and continuations as pairs of arrays.

    Args:
      model: anything that satisfies the `Model` protocol.
      prompts: token lists, or (int32 [B, P] padded on the right, lengths int32 [B]).
      continuations: the same for R rows, a multiple of B, prompt-major: the first R / B
        continue the first prompt. A continuation may be empty.
      sampler: a chain or a link, parameters a number or one per prompt; None is the
        model's own distribution.
      key: as in `generate`; only needed for links that throw a coin.

    Returns:
      A `Score` with T columns: the longest continuation's, or those of the array given.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for values out of range: ids outside the vocabulary, a prompt with its
        continuation beyond the model's length, a number of continuations that does not
        fit, or no key for a link that needs one.
    """
    check_model("score", model)
    read = as_prompts("score", prompts, model.vocab_size, model.max_length)
    count = read.tokens.shape[0]
    given = as_prompts(
        "score",
        continuations,
        model.vocab_size,
        model.max_length,
        name="continuations",
        empty=True,
    )
    samples, rest = divmod(given.tokens.shape[0], count)
    if rest or not samples:
        raise ValueError(
            f"score: `continuations` must be one or more for each prompt ({count}), "
            f"got {given.tokens.shape[0]}."
        )
    _check_room(read, given, model.max_length)
    chain = None if sampler is None else as_chain(sampler)
    if chain is not None:
        chain.check(count, model.vocab_size)
        if chain.is_stochastic and key is None:
            raise ValueError(
                "score: `key` must be given for a stochastic link, got None."
            )
        chain = chain.per_row(count, samples)
    keys = (
        None if key is None else sample_keys(prompt_keys("score", key, count), samples)
    )
    platform = current_platform()
    result = _run(model, read, given, chain, keys, platform=platform)
    return _fit(result, _width(continuations))


@compiled(static=("platform",))
def _run(
    model: Model, prompts: Prompts, given: Prompts, chain, keys, *, platform: Platform
) -> Score:
    times = given.tokens.shape[0] // prompts.tokens.shape[0]
    prompts = repeat_rows(prompts, times)
    tokens = _joined(prompts, given, model.max_length)
    width = given.tokens.shape[1]
    logits = _logits(model, prompts, tokens, width, platform)  # [T, R, V]
    own = jax.vmap(_logprobs, (0, 1))(logits, given.tokens).T
    drawn = own
    if chain is not None:
        replayed = (logits, tokens, prompts.lengths, given, keys)
        drawn = _replay(chain, *replayed, platform)
    real = jnp.arange(given.tokens.shape[1])[None, :] < given.lengths[:, None]
    return Score(
        model_logprobs=jnp.where(real, own, 0.0),
        sampling_logprobs=jnp.where(real, drawn, 0.0),
        lengths=given.lengths,
    )


def _logits(
    model: Model, prompts: Prompts, tokens: jax.Array, width: int, platform: Platform
) -> jax.Array:
    """Return the logits from which each of `width` tokens is drawn, [T, R, V].

    The prompt is read first, and alone, as `generate` reads it; the rest follows from
    where each row's prompt ends, or earlier in rows that would run out of columns.
    """
    count, columns = tokens.shape
    cache = model.init_cache(count, columns)
    first, cache = prefill(model, prompts, cache, platform=platform, reversible=True)
    if width == 1:
        return first[None]
    steps = jnp.arange(width - 1, dtype=jnp.int32)
    begin = jnp.minimum(prompts.lengths, columns - (width - 1))
    positions = begin[:, None] + steps[None, :]
    read = jnp.take_along_axis(tokens, positions, axis=1)
    rest, _ = logits_of(model, read, positions, cache)
    moved = steps[None, :] + (prompts.lengths - begin)[:, None]
    moved = jnp.minimum(moved, width - 2)
    rest = jax.vmap(lambda rows, index: rows[index])(rest, moved)
    return jnp.concatenate([first[None], jnp.swapaxes(rest, 0, 1)])


def _replay(
    chain: Chain, logits, tokens, lengths, given: Prompts, keys, platform: Platform
) -> jax.Array:
    """Return each token's log-probability under the chain, [R, T]."""

    def contexts_at(step):
        place = lengths + step
        return Context(
            tokens=tokens,
            length=place,
            prompt_length=lengths,
            key=None if keys is None else step_keys(keys, place),
            vocab_size=logits.shape[2],
        )

    def body(states, inputs):
        step, raw, token = inputs
        contexts = contexts_at(step)
        rows, views = process_seen(chain, raw, contexts, states, platform=platform)
        logprob = _logprobs(rows, token)
        seen = observe(chain, views, token)
        known = Drawn(token=token, logprob=logprob, context=contexts, seen=seen)
        states = update_rows(chain, states, known)
        return states, logprob

    start = init_rows(chain, contexts_at(0))
    steps = jnp.arange(given.tokens.shape[1], dtype=jnp.int32)
    return jax.lax.scan(body, start, (steps, logits, given.tokens.T))[1].T


def _logprobs(rows: jax.Array, token: jax.Array) -> jax.Array:
    """Return the log-probabilities [R] of tokens [R] under rows [R, V]."""
    return logprobs_of(jnp.take_along_axis(rows, token[:, None], axis=1)[:, 0], rows)


def _joined(prompts: Prompts, given: Prompts, max_length: int) -> jax.Array:
    """Return prompt and continuation of each row, one after the other, int32 [R, S]."""
    width = prompts.tokens.shape[1] + given.tokens.shape[1]
    place = jnp.arange(min(width, max_length), dtype=jnp.int32)[None, :]
    inside = place - prompts.lengths[:, None]

    def pick(table, index):
        index = jnp.clip(index, 0, table.shape[1] - 1)
        return jnp.take_along_axis(table, jnp.broadcast_to(index, inside.shape), axis=1)

    return jnp.where(
        inside < 0, pick(prompts.tokens, place), pick(given.tokens, inside)
    )


def _width(given: Any) -> int:
    """Return how many columns the result shall have."""
    if isinstance(given, tuple) and len(given) == 2 and np.ndim(given[0]) == 2:
        return given[0].shape[1]
    return max([1, *map(len, given)])


def _check_room(prompts: Prompts, given: Prompts, max_length: int) -> None:
    if given.tokens.shape[1] > max_length:
        raise ValueError(
            f"score: `continuations` must be at most {max_length} columns wide, the "
            f"model's positions, got {given.tokens.shape[1]}."
        )
    if check.is_traced(prompts.lengths) or check.is_traced(given.lengths):
        return
    times = given.lengths.size // prompts.lengths.size
    total = np.repeat(np.asarray(prompts.lengths), times) + given.lengths
    if (total > max_length).any():
        row = int(np.argmax(total))
        raise ValueError(
            f"score: prompt + continuation must be <= {max_length} tokens, the model's "
            f"positions, got {total[row]} for continuation {row}."
        )


def _fit(result: Score, width: int) -> Score:
    """Give the result as many columns as were asked for."""

    def fit(leaf):
        if leaf.ndim == 1 or leaf.shape[1] == width:
            return leaf
        if check.is_traced(leaf):
            return leaf[:, :width]
        cut = np.asarray(leaf)[:, :width]
        return jax.device_put(np.pad(cut, ((0, 0), (0, width - cut.shape[1]))))

    return jax.tree.map(fit, result)
