"""`stochastic_beam_search`: K different texts, drawn without replacement.

A plain search over log-probs that were perturbed once per whole text. In ordinary
Python, for one prompt (G is a hypothesis's perturbed log-prob, phi its own):

    beams = [(phi=0, G=gumbel(), tokens=[])]
    while not all ended:
        for beam in beams that have not ended:
            noisy = phi + logprobs + gumbel(V)          # one per child
            # the children's maximum must be the parent's G: shift them so that it is
            children = -log(exp(-G) - exp(-max(noisy)) + exp(-noisy))
        beams = the K + 1 with the largest G among children and ended beams

So the K best are a sample without replacement from the distribution over whole texts,
and the G of the next one tells with which probability each was to be included.

Reference: Kool, van Hoof and Welling, Stochastic Beams and Where to Find Them, 2019,
arXiv 1903.06059.
"""

from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jaxdecode.core.keys import no_key
from jaxdecode.core.protocol import Model, for_platform
from jaxdecode.core.pytree import pytree, replace
from jaxdecode.core.shapes import Array, KeyLike, TokenLists
from jaxdecode.core.status import Status
from jaxdecode.decode.beam import steps
from jaxdecode.decode.beam.choosing import is_eos, is_full
from jaxdecode.decode.beam.request import Options, prepare_search
from jaxdecode.decode.beam.result import walk
from jaxdecode.decode.beam.running import run_to_the_end
from jaxdecode.decode.beam.state import (
    BeamCandidates,
    Finished,
    Search,
    take_columns,
)
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.request import cut_columns
from jaxdecode.sampling.noise import gumbel_at
from jaxdecode.sampling.order import top_k
from jaxdecode.transforms import Chain, Link, chain

OPTIONS = ("max_new_tokens", "eos_ids", "pad_id", "memory", "new_tokens_max", "wide")
ROOT = 0x5B5EA2C4  # folded into the first step's key: the noise of the empty text


@pytree
class StochasticBeams:
    """A sample without replacement of K texts per prompt, in the order of the draw.

    For any function f of a text, `sum(weights * f, axis=1)` is an unbiased estimate of
    its expectation. Where fewer texts exist, the rest have status INVALID, length 0,
    weight 0 and log-probabilities -inf.

    Attributes:
      tokens: int32 [B, K, T], generated tokens only, the eos included, then `pad_id`.
      lengths: int32 [B, K], how many of them are real, the eos counted.
      logprobs: float32 [B, K], log p of the text, after the sampler.
      perturbed: float32 [B, K], descending: log p plus the text's Gumbel noise.
      threshold: float32 [B], the perturbed log-prob of the text that came next; -inf if
        there was none.
      inclusion: float32 [B, K], the log-probability that a text is above the threshold.
      weights: float32 [B, K], exp(logprobs - inclusion).
      status: int8 [B, K], a `Status`: EOS, LENGTH or INVALID.
      token_logprobs: float32 [B, K, T], after the sampler; 0 after the end.
    """

    tokens: Array
    lengths: Array
    logprobs: Array
    perturbed: Array
    threshold: Array
    inclusion: Array
    weights: Array
    status: Array
    token_logprobs: Array


@pytree
class StochasticState:
    """The carry of the loop; `search.scores` are the texts' own log-probs.

    Attributes:
      search: what it shares with a beam search.
      perturbed: float32 [B, K + 1]; -inf is a beam that holds nothing.
      lengths: int32 [B, K + 1].
      status: int32 [B, K + 1]; RUNNING while the text goes on.
    """

    search: Search
    perturbed: jax.Array
    lengths: jax.Array
    status: jax.Array


def stochastic_beam_search(
    model: Model,
    prompts: TokenLists,
    key: KeyLike,
    *,
    num_beams: int,
    sampler: Link | Chain | None = None,
    **options: Unpack[Options],
) -> StochasticBeams:
    """Draw `num_beams` different texts per prompt, without replacement.

    The first is an ordinary sample; each further one is drawn from what is left. One
    compiled program; it recompiles as `beam_search` does. The noise of beam k and token
    v at a position is entry k * V + v of `gumbel(step_key, ((K + 1) * V,))`.

    Args:
      model: as in `beam_search`.
      prompts: as in `beam_search`.
      key: one key (row b takes `fold_in(key, b)`), keys [B], or seeds; consumed.
      num_beams: texts per prompt, K, in [1, vocabulary size - 1]; one beam more runs
        beside them to find the threshold.
      sampler: a chain or a link, as in `generate`; the distribution is normalised
        again after it. None is the model's own distribution.
      **options: as in `beam_search`: max_new_tokens, eos_ids, pad_id, memory,
        new_tokens_max, wide.

    Returns:
      `StochasticBeams`.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for values out of range. All before anything compiles.

    Reference: Kool, van Hoof and Welling, 2019, arXiv 1903.06059; the estimator is
    theirs, with the (K + 1)-th largest perturbed log-prob as threshold.
    """
    who = "stochastic_beam_search"
    check_model(who, model)
    if key is None:
        raise no_key(who)
    links = chain() if sampler is None else chain(sampler)
    normalised: Any = options | {"renormalize": True}
    given = (model, prompts, num_beams, links, normalised)
    request = prepare_search(
        who, *given, key=key, spare_beams=1, allowed=(*OPTIONS, "renormalize")
    )
    found = _run(model, request.prompts, request.search, request.pad_id)
    return cut_columns(found, width=request.width, rows=request.search.plan.beams)


@compiled()
def _run(model: Model, prompts: Prompts, search: Search, pad_id: Any):
    texts = start(for_platform(model, search.plan.platform), prompts, search)
    texts = run_to_the_end(
        model,
        texts,
        lambda model, texts: step(model, texts, pad_id),
        lambda texts: texts.search,
    )
    return _collect(texts, pad_id)


def start(model: Model, prompts: Prompts, search: Search) -> StochasticState:
    """Read the prompts; each row then has one empty text with its noise."""
    search = steps.start(model, prompts, search)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, ROOT))(
        steps.prompt_step_keys(search)
    )
    zero = jnp.zeros((1,), jnp.int32)
    noise = jax.vmap(lambda key: gumbel_at(key, zero, 1))(keys)
    return StochasticState(
        search=search,
        perturbed=search.scores + noise,
        lengths=jnp.zeros(search.scores.shape, jnp.int32),
        status=jnp.full(search.scores.shape, int(Status.RUNNING), jnp.int32),
    )


def step(model: Model, texts: StochasticState, pad_id: Any) -> StochasticState:
    """Bring every text that has not ended one token further."""
    search, logits = steps.forward(model, texts.search)
    return expand(replace(texts, search=search), logits, pad_id)


def expand(texts: StochasticState, logits: jax.Array, pad_id: Any) -> StochasticState:
    """Choose the K + 1 best of all children and of the texts that have ended."""
    search, vocab_size = texts.search, logits.shape[1]
    log_probs, valid = steps.log_rows(search, logits)
    ended = texts.status != Status.RUNNING
    totals = search.scores[:, :, None] + log_probs
    values = _children(texts.perturbed, totals, steps.prompt_step_keys(search))
    stay = jnp.where(jnp.arange(vocab_size) == 0, 0.0, -jnp.inf)[None, None]
    values = jnp.where(ended[:, :, None], texts.perturbed[:, :, None] + stay, values)

    beams = search.plan.beams
    flat = values.reshape(values.shape[0], -1)
    platform = search.plan.platform
    perturbed, index = jax.vmap(lambda row: top_k(row, beams, platform=platform))(flat)
    parents = (index // vocab_size).astype(jnp.int32)
    was = take_columns(ended, parents)
    tokens = jnp.where(was, pad_id, (index % vocab_size).astype(jnp.int32))
    length = search.step[:, None] + 1
    lengths = jnp.where(was, take_columns(texts.lengths, parents), length)

    def old_or_new(old, new):
        new = take_columns(new.reshape(new.shape[0], -1), index)
        return jnp.where(was, take_columns(old, parents), new)

    ends = is_eos(search, tokens)
    full = jnp.broadcast_to(is_full(search)[:, None], ends.shape)
    fresh = jnp.where(full, int(Status.LENGTH), int(Status.RUNNING))
    fresh = jnp.where(ends, int(Status.EOS), fresh).astype(jnp.int32)
    status = jnp.where(was, take_columns(texts.status, parents), fresh)
    chosen = BeamCandidates(
        values=old_or_new(search.scores, totals),
        parents=parents,
        tokens=tokens,
        logprobs=old_or_new(jnp.zeros_like(search.scores), log_probs),
        is_eos=ends,
        is_last=status != Status.RUNNING,
        may_finish=ends,
        progress=None,
    )
    running = (status == Status.RUNNING) & (perturbed > -jnp.inf)
    search = replace(search, valid=valid, open=search.open & valid)
    search = replace(
        steps.reorder(search, chosen, vocab_size),
        scores=chosen.values,
        open=search.open & jnp.any(running, axis=1),
    )
    return StochasticState(search, perturbed, lengths, status)


def _children(perturbed: jax.Array, totals: jax.Array, keys: Any) -> jax.Array:
    """Return Gumbels [B, K, V] located at `totals`, given that their maximum is known.

    Written so that neither exp(-noisy) nor a difference of near numbers overflows
    (appendix B.3 of the paper).
    """
    _, beams, vocab_size = totals.shape
    every = jnp.arange(beams * vocab_size, dtype=jnp.int32)
    noise = jax.vmap(lambda key: gumbel_at(key, every, beams * vocab_size))(keys)
    noisy = totals + noise.reshape(totals.shape)
    top = jnp.max(noisy, axis=2, keepdims=True)
    below = jnp.where(totals > -jnp.inf, noisy - top, -jnp.inf)
    gap = perturbed[:, :, None] - noisy + jnp.log(-jnp.expm1(below))
    shifted = perturbed[:, :, None] - jnp.maximum(gap, 0.0)
    shifted = shifted - jnp.log1p(jnp.exp(-jnp.abs(gap)))
    return jnp.where(totals > -jnp.inf, shifted, -jnp.inf)


def _collect(texts: StochasticState, pad_id: Any) -> StochasticBeams:
    search, steps_max = texts.search, texts.search.plan.steps_max
    last = steps_max - 1
    pointers = search.pointers
    ends = Finished(
        scores=search.scores,
        steps=jnp.full(texts.lengths.shape, last, jnp.int32),
        parents=pointers.parents[:, last],
        tokens=pointers.tokens[:, last],
        logprobs=pointers.logprobs[:, last],
        status=texts.status,
    )
    tokens, logprobs, _ = walk(pointers, ends)
    exists = search.valid[:, None] & (texts.perturbed > -jnp.inf)
    threshold = jnp.where(search.valid, texts.perturbed[:, -1], -jnp.inf)
    lengths = jnp.where(exists, texts.lengths, 0)
    real = jnp.arange(steps_max)[None, None] < lengths[:, :, None]
    own = jnp.where(exists, search.scores, -jnp.inf)
    above = jnp.where(exists, own - threshold[:, None], -jnp.inf)
    inclusion = jnp.log(-jnp.expm1(-jnp.exp(above)))
    status = jnp.where(exists, texts.status, int(Status.INVALID)).astype(jnp.int8)
    found = StochasticBeams(
        tokens=jnp.where(real, tokens, pad_id),
        lengths=lengths,
        logprobs=own,
        perturbed=jnp.where(exists, texts.perturbed, -jnp.inf),
        threshold=threshold,
        inclusion=inclusion,
        weights=jnp.where(exists, jnp.exp(own - inclusion), 0.0),
        status=status,
        token_logprobs=jnp.where(real, logprobs, 0.0),
    )
    return jax.tree.map(lambda leaf: leaf[:, :-1] if leaf.ndim > 1 else leaf, found)
