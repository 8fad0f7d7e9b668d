"""The search, step by step. In ordinary Python, for one prompt:

    beams, done = [(0.0, [])], []
    while True:
        candidates = sorted(extensions of all beams by all tokens, by log-prob)[:C]
        for rank, (logprob, tokens) in enumerate(candidates):
            if rank < K and tokens is finished:
                done.append((scoring(logprob, len(tokens)), tokens))
        done = the best K of done
        beams = the best K of candidates that are not finished
        if early_stopping is True and len(done) == K: break
        ahead = the best score the best of beams may reach
        if not beams or len(done) == K and ahead <= the worst of done: break

Finished means that the last token is an eos or the K-th of the budget. All rows run
together; a row that ended stays as it is. Nothing is copied along the way but the
pointers: the tokens are written out at the end.
"""

import jax
import jax.numpy as jnp

from jaxdecode.core.keys import step_keys
from jaxdecode.core.numerics import log_sum_exp
from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import replace
from jaxdecode.core.rows import repeat_rows, take_rows
from jaxdecode.core.status import Status
from jaxdecode.decode.beam.caches import read_prompts
from jaxdecode.decode.beam.choosing import grouped_candidates, unfinished
from jaxdecode.decode.beam.constraints import constrained_candidates
from jaxdecode.decode.beam.scoring import Hypothesis, best_ahead, score_rows
from jaxdecode.decode.beam.state import (
    EARLY,
    BackPointers,
    BeamCandidates,
    Finished,
    Plan,
    Search,
    take_columns,
)
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.rows import Rows
from jaxdecode.decode.steps import forward as forward_rows
from jaxdecode.sampling import init_rows, process, update_rows
from jaxdecode.transforms import Context, Drawn


def start(model: Model, prompts: Prompts, search: Search) -> Search:
    """Read the prompts; each row then has one empty hypothesis."""
    plan = search.plan
    count, beams = search.asked.prompt_length.shape[0], plan.beams
    logits, cache = read_prompts(
        model,
        prompts,
        beams=plan.prompt_beams,
        columns=max(plan.steps_max - 1, 1),
        kind=plan.memory,
        platform=plan.platform,
    )
    width = prompts.tokens.shape[1]
    tokens = jnp.pad(jnp.asarray(prompts.tokens), ((0, 0), (0, plan.steps_max)))
    total = count * beams
    rows = replace(
        search.rows,
        cache=cache,
        tokens=repeat_rows(tokens, plan.prompt_beams),
        length=jnp.asarray(search.rows.prompt_length),
        status=jnp.full((total,), int(Status.RUNNING), jnp.int32),
        logits=repeat_rows(logits, plan.prompt_beams),
        unread=jnp.zeros((total,), bool),
    )
    vocab_size = model.vocab_size
    rows = replace(
        rows, links=init_rows(rows.chain, contexts_of(rows, plan, vocab_size))
    )
    lengths = jnp.asarray(search.asked.prompt_length)
    valid = (lengths >= 1) & (lengths <= width)
    valid &= jnp.all(rows.chain.is_sound(total).reshape(count, -1), axis=1)
    first = jnp.arange(beams)[None] == 0
    phrases = search.phrases
    return replace(
        search,
        rows=rows,
        open=valid & (jnp.asarray(search.asked.budget) >= 1),
        valid=valid,
        scores=jnp.broadcast_to(jnp.where(first, 0.0, -jnp.inf), (count, beams)),
        progress=None
        if phrases is None
        else jnp.zeros((count, beams, phrases.lengths.shape[1]), jnp.int32),
        finished=_nothing_finished(count, beams),
        pointers=BackPointers.empty(count, plan.steps_max, beams),
    )


def step(model: Model, search: Search) -> Search:
    """Bring every beam one token further."""
    search, logits = forward(model, search)
    return expand(search, logits)


def forward(model: Model, search: Search) -> tuple[Search, jax.Array]:
    """Read every beam's last token; return the search and logits [N * K, V]."""
    rows, logits = forward_rows(model, search.rows, platform=search.plan.platform)
    return replace(search, rows=rows), logits


def any_open(search: Search) -> jax.Array:
    """Whether some row is still searched, a bool."""
    return jnp.any(search.open)


def expand(search: Search, logits: jax.Array) -> Search:
    """Append one token to every beam, given its logits [N * K, V]."""
    log_probs, valid = log_rows(search, logits)
    search = replace(search, valid=valid, open=search.open & valid)
    totals = search.scores[:, :, None] + log_probs
    choose = grouped_candidates if search.phrases is None else constrained_candidates
    found, kept = choose(search, log_probs, totals, prompt_step_keys(search))
    finished = finish(search, found, logits.shape[1])
    beams = found.take(kept)
    alive = jnp.where(search.open[:, None], unfinished(beams), -jnp.inf)
    search = replace(
        reorder(search, beams, logits.shape[1]),
        finished=finished,
        scores=alive,
        progress=beams.progress,
    )
    return replace(search, open=search.open & may_improve(search))


def log_rows(search: Search, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return log-probs [N, K, V] after the edits, and which rows are still valid."""
    count, beams = search.scores.shape
    norm = log_sum_exp(logits)
    # NaN and +inf anywhere in a row show in its normaliser.
    valid = norm < jnp.inf
    log_probs = logits - norm[:, None]
    rows, plan = search.rows, search.plan
    if rows.chain.links:
        contexts = contexts_of(rows, plan, logits.shape[1])
        given = (rows.chain, log_probs, contexts, rows.links)
        log_probs = process(*given, platform=plan.platform)
        valid &= jnp.all(log_probs < jnp.inf, axis=1)
    if plan.renormalize:
        log_probs = log_probs - log_sum_exp(log_probs)[:, None]
    # A row of -inf only has no normaliser; it has no candidates either.
    log_probs = jnp.where(jnp.isnan(log_probs), -jnp.inf, log_probs)
    held = search.scores > -jnp.inf
    valid = jnp.all(valid.reshape(count, beams) | ~held, axis=1)
    return log_probs.reshape(count, beams, -1), search.valid & (valid | ~search.open)


def finish(search: Search, found: BeamCandidates, vocab_size: int) -> Finished:
    """Return the finished hypotheses with those candidates that belong to them."""
    old, shape = search.finished, found.values.shape
    full = jnp.all(old.scores > -jnp.inf, axis=1)
    takes = search.open & ~(full & (search.early == EARLY[True]))
    enters = found.is_last & found.may_finish & (found.values > -jnp.inf)
    lengths = jnp.broadcast_to(search.step[:, None] + 1, shape)
    reads_tokens = search.scoring.reads_tokens
    scores = score_rows(
        search.scoring,
        Hypothesis(
            logprob=found.values,
            length=lengths,
            prompt_length=jnp.broadcast_to(search.asked.prompt_length[:, None], shape),
            ended=found.is_eos,
            context=_candidate_contexts(search, found, vocab_size)
            if reads_tokens
            else None,
        ),
    )
    status = jnp.where(found.is_eos, int(Status.EOS), int(Status.LENGTH))
    new = Finished(
        scores=jnp.where(enters & takes[:, None], scores, -jnp.inf),
        steps=lengths - 1,
        parents=found.parents,
        tokens=found.tokens,
        logprobs=found.logprobs,
        status=status.astype(jnp.int32),
    )
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), old, new)
    _, best = jax.lax.top_k(both.scores, search.plan.beams)
    return jax.tree.map(lambda leaf: take_columns(leaf, best), both)


def may_improve(search: Search) -> jax.Array:
    """Whether a better hypothesis than a row's worst is still searched for, bool [N]."""
    best = jnp.max(search.scores, axis=1)
    running = Hypothesis(
        logprob=best,
        length=search.step,
        prompt_length=jnp.asarray(search.asked.prompt_length),
        ended=jnp.zeros(best.shape, bool),
    )
    scoring = search.scoring
    now = score_rows(scoring, jax.tree.map(lambda leaf: leaf[:, None], running))
    ahead = best_ahead(scoring, running, search.asked.budget, search.plan.steps_max)
    reach = jnp.where(search.early == EARLY["never"], ahead, now[:, 0])
    worst = jnp.min(search.finished.scores, axis=1)  # -inf while a place is empty
    full = worst > -jnp.inf
    satisfied = full & (search.early == EARLY[True])
    return (best > -jnp.inf) & ~satisfied & (~full | (reach > worst))


def reorder(search: Search, beams: BeamCandidates, vocab_size: int) -> Search:
    """Let every beam continue the parent chosen for it [N, K], and append the token.

    Rows that are no longer searched keep their length: what happens to them is not seen.
    """
    plan = search.plan
    at = jnp.where(search.open, search.step, plan.steps_max)  # beyond: dropped
    pointers = search.pointers.record(at, beams.parents, beams.tokens, beams.logprobs)
    moves = repeat_rows(search.open, plan.beams)
    # Only the logits after the prompts stay: all beams of a prompt have the same.
    logits = search.rows.logits
    rows = replace(search.rows, logits=None)
    rows = take_rows(rows, _flat_rows(beams.parents, plan.beams))
    drawn = Drawn(
        token=beams.tokens.reshape(-1),
        logprob=beams.logprobs.reshape(-1),
        context=contexts_of(rows, plan, vocab_size),
    )
    rows = replace(
        rows,
        links=update_rows(rows.chain, rows.links, drawn),
        tokens=_append(rows.tokens, rows.length, drawn.token),
        length=rows.length + moves.astype(jnp.int32),
        unread=rows.unread | moves,
        logits=logits,
    )
    return replace(search, rows=rows, pointers=pointers)


def contexts_of(rows: Rows, plan: Plan, vocab_size: int) -> Context:
    """Return what every beam knows of its past, leaves [N * K, ...]."""
    return Context(
        tokens=rows.tokens,
        length=rows.length,
        prompt_length=rows.prompt_length,
        key=_beam_keys(rows, plan.prompt_beams),
        vocab_size=vocab_size,
        budget=rows.budget,
        ends=rows.ends,
    )


def prompt_step_keys(search: Search) -> jax.Array | None:
    """Return the keys [N] of this step's draw: row key and absolute position."""
    asked = search.asked
    if asked.key is None:
        return None
    return step_keys(asked.key, asked.prompt_length + search.step)


def _beam_keys(rows: Rows, beams: int) -> jax.Array | None:
    """Return keys of the links that draw: a step key folded with the beam's number."""
    if rows.key is None:
        return None
    steps = step_keys(rows.key, rows.length)
    numbers = jnp.arange(steps.shape[0], dtype=jnp.int32) % beams
    return jax.vmap(jax.random.fold_in)(steps, numbers)


def _candidate_contexts(
    search: Search, found: BeamCandidates, vocab_size: int
) -> Context:
    """Return the tokens of every candidate, for scorings that read them."""
    beams, shape = search.plan.beams, found.values.shape
    prompt_length = jnp.asarray(search.asked.prompt_length)[:, None]
    lengths = jnp.broadcast_to(prompt_length + search.step[:, None], shape)
    parents = _flat_rows(found.parents, beams)
    tokens = _append(
        search.rows.tokens[parents], lengths.reshape(-1), found.tokens.reshape(-1)
    )
    return Context(
        tokens=tokens.reshape(*shape, -1),
        length=lengths + 1,
        prompt_length=jnp.broadcast_to(prompt_length, shape),
        key=None,
        vocab_size=vocab_size,
    )


def _flat_rows(parents: jax.Array, beams: int) -> jax.Array:
    start = jnp.arange(parents.shape[0], dtype=jnp.int32)[:, None] * beams
    return (start + parents).reshape(-1)


def _append(tokens: jax.Array, lengths: jax.Array, new: jax.Array) -> jax.Array:
    rows = jnp.arange(tokens.shape[0])
    return tokens.at[rows, lengths].set(new, mode="drop")


def _nothing_finished(rows: int, beams: int) -> Finished:
    def nothing(value, dtype):
        return jnp.full((rows, beams), value, dtype)

    return Finished(
        scores=nothing(-jnp.inf, jnp.float32),
        steps=nothing(-1, jnp.int32),
        parents=nothing(0, jnp.int32),
        tokens=nothing(0, jnp.int32),
        logprobs=nothing(0.0, jnp.float32),
        status=nothing(int(Status.INVALID), jnp.int32),
    )
