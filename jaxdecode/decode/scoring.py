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

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.keys import prompt_keys, sample_keys
from jaxdecode.core.platform import Platform
from jaxdecode.core.processes import in_every_process
from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import pytree
from jaxdecode.core.rows import repeat_rows
from jaxdecode.core.shapes import Array, KeyLike, TokenLists
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.observables import Observable, as_observables
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts, as_prompts
from jaxdecode.decode.replaying import (
    KL,
    OWN,
    REFERENCE,
    SAMPLED,
    Texts,
    joined,
    measure,
)
from jaxdecode.decode.request import count_of
from jaxdecode.native import current_platform
from jaxdecode.transforms import Chain, Link, as_chain


@pytree
class Score:
    """How likely continuations are; R rows.

    Attributes:
      model_logprobs: float32 [R, T], log-probability of each token under the model's own
        distribution (raw logits); 0 after the end.
      sampling_logprobs: float32 [R, T], the same under the sampler, after every link;
        -inf for a token that it would not have drawn; 0 after the end.
      lengths: int32 [R], how many tokens were scored.
      observations: what was asked for with `observe`, by name, as in `Generation`; empty
        otherwise.
      reference_logprobs: float32 [R, T], log-probability of each token under the
        reference's own distribution; 0 after the end; None without a reference.
      kl: float32 [R, T], the divergence KL(model || reference) of the two models' own
        distributions of each token, in nats, exact (a sum over the vocabulary); 0 after
        the end; inf where the model gives a token that the reference cannot give; None
        without a reference.
    """

    model_logprobs: Array
    sampling_logprobs: Array
    lengths: Array
    observations: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    reference_logprobs: Array | None = None
    kl: Array | None = None


def score(
    model: Model,
    prompts: TokenLists,
    continuations: TokenLists,
    *,
    sampler: Link | Chain | None = None,
    key: KeyLike | None = None,
    observe: Sequence[str] = (),
    chunk: int | None = None,
    reference: Model | None = None,
) -> Score:
    """Return the log-probabilities of given continuations, teacher-forced.

    Differentiable with respect to the model's arrays and the sampler's parameters (not
    through what a truncation keeps, which is piecewise constant). For the output of
    `generate` with the same sampler and key, `sampling_logprobs` are equal to its own up
    to rounding, so an importance ratio is 1:
    `score(model, prompts, (out.tokens, out.lengths), sampler=sampler)`.

    Every row of logits is sorted whole where the sampler truncates. The logits
    [R, T, V] are in memory at once, or those of `chunk` tokens.

    Recompiles for another model structure, number of rows, bucket of prompt or
    continuation length, links, `observe` or `chunk`; never for other values. Works
    inside the caller's `jit`, `vmap` and `grad`, with prompts and continuations as pairs
    of arrays.

    Args:
      model: anything that satisfies the `Model` protocol.
      prompts: token lists, or (int32 [B, P] padded on the right, lengths int32 [B]).
      continuations: the same for R rows, a multiple of B, prompt-major: the first R / B
        continue the first prompt. A continuation may be empty.
      sampler: a chain or a link, parameters a number or one per prompt; None is the
        model's own distribution.
      key: as in `generate`; only needed for links that throw a coin.
      observe: what to report of every token (see `Generation.observations`), by name:
        "entropy", "rank", "top_logprobs:5". Static.
      chunk: how many tokens are read at once, >= 1; a gradient computes their logits
        again, so that memory does not grow with T. None is all of them. Static.
      reference: another model of the same vocabulary, such as the one that training
        began with; the result then says how far the model is from it. None for none.

    Returns:
      A `Score` with T columns: the longest continuation's, or those of the array given.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for values out of range: ids outside the vocabulary, a prompt with its
        continuation beyond the model's length, a number of continuations that does not
        fit, or no key for a link that needs one.
    """
    check_model("score", model)
    _check_reference(model, reference)
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
    observables = as_observables("score", observe, model.vocab_size)
    chunk = None if chunk is None else count_of("score", "chunk", chunk)
    # Without either there is no row to process, and tokens are scored all at once.
    chain = None if sampler is None and not observables else as_chain(sampler)
    if chain is not None:
        chain.check(count, model.vocab_size)
        chain.check_request(model.vocab_size)
        if chain.is_stochastic and key is None:
            raise ValueError(
                "score: `key` must be given for a stochastic link, got None."
            )
        chain = chain.per_row(count, samples)
    keys = (
        None if key is None else sample_keys(prompt_keys("score", key, count), samples)
    )
    static = {"observables": observables, "chunk": chunk}
    static["platform"] = current_platform()
    result = _run((model, reference), read, given, chain, keys, **static)
    return _fit(result, _width(continuations))


@compiled(static=("observables", "chunk", "platform"))
def _run(
    models: tuple[Model, Model | None],
    prompts: Prompts,
    given: Prompts,
    chain: Chain | None,
    keys: jax.Array | None,
    *,
    observables: tuple[Observable, ...],
    chunk: int | None,
    platform: Platform,
) -> Score:
    times = given.tokens.shape[0] // prompts.tokens.shape[0]
    prompts = repeat_rows(prompts, times)
    model, reference = models
    tokens = joined(prompts, given, model.max_length)
    texts = Texts(prompts, given, tokens, chain, keys)
    asked = {"observables": observables, "chunk": chunk, "platform": platform}
    found = measure(model, texts, reference=reference, **asked)
    real = jnp.arange(texts.width)[None, :] < given.lengths[:, None]

    def ended(name, leaf):
        mask = real.reshape(real.shape + (1,) * (leaf.ndim - 2))
        return jnp.where(mask, leaf, -1 if name.endswith("top_ids") else 0)

    if chain is not None:
        sound = chain.is_sound(given.lengths.shape[0])[:, None]
        found[SAMPLED] = jnp.where(sound, found[SAMPLED], jnp.nan)
    found = {name: ended(name, leaf) for name, leaf in found.items()}
    return Score(
        model_logprobs=found.pop(OWN),
        sampling_logprobs=found.pop(SAMPLED),
        lengths=given.lengths,
        reference_logprobs=found.pop(REFERENCE, None),
        kl=found.pop(KL, None),
        observations=found,
    )


def _check_reference(model: Model, reference: Model | None) -> None:
    if reference is None:
        return
    check_model("score", reference)
    for name in ("vocab_size", "max_length"):
        own, other = getattr(model, name), getattr(reference, name)
        fits = own == other if name == "vocab_size" else own <= other
        if not fits:
            rule = "the model's" if name == "vocab_size" else "at least the model's"
            raise ValueError(
                f"score: `reference` must have {rule} {name} ({own}), got {other}."
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
        missing = [(0, 0), (0, width - cut.shape[1]), *[(0, 0)] * (cut.ndim - 2)]
        return jax.device_put(np.pad(cut, missing))

    return jax.tree.map(fit, in_every_process(result))
