"""The search, step by step. In ordinary Python, for one prompt:

    beams, done = [(0.0, [])], []
    while True:
        pool = sorted(extensions of all beams by all tokens, by log-prob)[:C]
        for rank, (logprob, tokens) in enumerate(pool):
            if rank < K and tokens is finished:
                done.append((scoring(logprob, len(tokens)), tokens))
        done = the best K of done
        beams = the best K of pool that are not finished
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
from jaxdecode.core.status import Status
from jaxdecode.decode.beam.choose import going_on, grouped_pool
from jaxdecode.decode.beam.constraints import constrained_pool
from jaxdecode.decode.beam.memory import read_prompts
from jaxdecode.decode.beam.scoring import Hypothesis, best_ahead, score_rows
from jaxdecode.decode.beam.state import (
    EARLY,
    BeamJob,
    BeamState,
    Finished,
    Pool,
    Trail,
    take_columns,
)
from jaxdecode.decode.prompts import Prompts
from jaxdecode.sampling import over_rows, process
from jaxdecode.transforms import Context, Drawn


def start(model: Model, prompts: Prompts, job: BeamJob) -> BeamState:
    """Read the prompts; each row then has one empty hypothesis."""
    plan = job.plan
    rows, beams = job.prompt_lengths.shape[0], plan.beams
    logits, memory = read_prompts(
        model,
        prompts,
        beams=plan.prompt_beams,
        columns=max(plan.steps_max - 1, 1),
        kind=plan.memory,
    )
    first = jnp.arange(beams)[None] == 0
    alive = jnp.broadcast_to(jnp.where(first, 0.0, -jnp.inf), (rows, beams))
    width = prompts.tokens.shape[1]
    lengths = jnp.asarray(job.prompt_lengths)
    state = BeamState(
        memory=memory,
        step=jnp.int32(0),
        open=(lengths >= 1) & (lengths <= width) & (jnp.asarray(job.budgets) >= 1),
        sound=(lengths >= 1) & (lengths <= width),
        scores=alive,
        tokens=jnp.zeros((rows, beams), jnp.int32),
        history=_first_history(prompts, plan.prompt_beams, plan.steps_max)
        if plan.reads_tokens
        else None,
        links=(),
        logits=jnp.repeat(logits, plan.prompt_beams, axis=0),
        progress=None
        if job.phrases is None
        else jnp.zeros((rows, beams, job.phrases.lengths.shape[1]), jnp.int32),
        finished=_nothing_finished(rows, beams),
        trail=Trail.empty(plan.steps_max, rows, beams),
    )
    if job.chain.links:
        contexts = contexts_of(job, state, model.vocab_size)
        links = over_rows(lambda c, context: c.init(context), job.chain, contexts)
        state = replace(state, links=links)
    return state


def extend(job: BeamJob, state: BeamState) -> BeamState:
    """Append one token to every beam, given its logits."""
    logits = state.logits
    rows, sound = log_rows(job, state, logits)
    state = replace(state, sound=sound, open=state.open & sound)
    totals = state.scores[:, :, None] + rows
    choose = grouped_pool if job.phrases is None else constrained_pool
    keys = prompt_step_keys(job, state)
    pool, kept = choose(job, state, rows, totals, keys)
    finished = settle(job, state, pool, logits.shape[1])
    beams = pool.take(kept)
    alive = going_on(beams)
    state = replace(
        follow(job, state, beams, logits.shape[1]),
        finished=finished,
        scores=jnp.where(state.open[:, None], alive, -jnp.inf),
        progress=beams.progress,
        step=state.step + 1,
    )
    return replace(state, open=state.open & may_improve(job, state))


def read(model: Model, job: BeamJob, state: BeamState) -> BeamState:
    """Feed every beam's last token to the model and keep the logits behind it."""
    position = job.prompt_lengths + jnp.minimum(state.step, job.budgets) - 1
    positions = jnp.repeat(position, job.plan.beams)[:, None]
    tokens = state.tokens.reshape(-1, 1)
    at = jnp.zeros((tokens.shape[0],), jnp.int32)
    logits, cache = model(tokens, positions, state.memory.cache, at=at)
    return replace(state, logits=logits, memory=replace(state.memory, cache=cache))


def advance(model: Model, job: BeamJob, state: BeamState) -> BeamState:
    """Bring every beam one token further.

    The first step takes the logits that the prompt left, any later one first reads the
    token before it, so that choosing is compiled once.
    """
    state = jax.lax.cond(
        state.step > 0, lambda s: read(model, job, s), lambda s: s, state
    )
    return extend(job, state)


def run(model: Model, job: BeamJob, state: BeamState, *, steps: int) -> BeamState:
    """Advance until every row has ended, looking once in `steps` tokens."""

    def go_on(state: BeamState):
        return jnp.any(state.open) & (state.step < job.plan.steps_max)

    def body(state: BeamState):
        if steps == 1:
            return advance(model, job, state)
        return jax.lax.scan(
            lambda s, _: (advance(model, job, s), None), state, None, length=steps
        )[0]

    return jax.lax.while_loop(go_on, body, state)


def log_rows(
    job: BeamJob, state: BeamState, logits: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return log-probs [N, K, V] after the edits, and which rows are still sound."""
    rows_count, beams = state.scores.shape
    norm = log_sum_exp(logits)
    # NaN and +inf anywhere in a row show in its normaliser.
    fine = norm < jnp.inf
    rows = logits - norm[:, None]
    if job.chain.links:
        contexts = contexts_of(job, state, logits.shape[1])
        rows = process(job.chain, rows, contexts, state.links)
        fine &= jnp.all(rows < jnp.inf, axis=1)
    if job.plan.renormalize:
        rows = rows - log_sum_exp(rows)[:, None]
    # A row of -inf only has no normaliser; it has no candidates either.
    rows = jnp.where(jnp.isnan(rows), -jnp.inf, rows)
    held = state.scores > -jnp.inf
    fine = jnp.all(fine.reshape(rows_count, beams) | ~held, axis=1)
    return rows.reshape(rows_count, beams, -1), state.sound & (fine | ~state.open)


def settle(job: BeamJob, state: BeamState, pool: Pool, vocab_size: int) -> Finished:
    """Return the finished hypotheses with those of the pool that belong to them."""
    found, beams = state.finished, job.plan.beams
    shape = pool.values.shape
    full = jnp.all(found.scores > -jnp.inf, axis=1)
    takes = state.open & ~(full & (job.early == EARLY[True]))
    enters = pool.is_last & pool.may_finish & (pool.values > -jnp.inf) & takes[:, None]
    lengths = jnp.broadcast_to(state.step + 1, shape)
    scores = score_rows(
        job.scoring,
        Hypothesis(
            logprob=pool.values,
            length=lengths,
            prompt_length=jnp.broadcast_to(job.prompt_lengths[:, None], shape),
            ended=pool.is_eos,
            context=_candidate_contexts(job, state, pool, vocab_size)
            if job.scoring.reads_tokens
            else None,
        ),
    )
    status = jnp.where(pool.is_eos, int(Status.EOS), int(Status.LENGTH))
    new = Finished(
        scores=jnp.where(enters, scores, -jnp.inf),
        steps=lengths - 1,
        parents=pool.parents,
        tokens=pool.tokens,
        logprobs=pool.logprobs,
        status=status.astype(jnp.int32),
    )
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), found, new)
    _, best = jax.lax.top_k(both.scores, beams)
    return jax.tree.map(lambda leaf: take_columns(leaf, best), both)


def may_improve(job: BeamJob, state: BeamState) -> jax.Array:
    """Say of each row whether a hypothesis better than its worst is still looked for."""
    best = jnp.max(state.scores, axis=1)
    running = Hypothesis(
        logprob=best,
        length=jnp.broadcast_to(state.step, best.shape),
        prompt_length=jnp.asarray(job.prompt_lengths),
        ended=jnp.zeros(best.shape, bool),
    )
    now = score_rows(job.scoring, jax.tree.map(lambda leaf: leaf[:, None], running))
    ahead = best_ahead(job.scoring, running, job.budgets, job.plan.steps_max)
    reach = jnp.where(job.early == EARLY["never"], ahead, now[:, 0])
    worst = jnp.min(state.finished.scores, axis=1)  # -inf while a place is empty
    full = worst > -jnp.inf
    satisfied = full & (job.early == EARLY[True])
    return (best > -jnp.inf) & ~satisfied & (~full | (reach > worst))


def follow(job: BeamJob, state: BeamState, beams: Pool, vocab_size: int) -> BeamState:
    """Move every row's state to the beams [N, K] chosen for it, and append the token."""
    plan = job.plan
    groups = jnp.arange(state.scores.shape[0], dtype=jnp.int32) % plan.groups
    in_prompt = beams.parents + (groups * plan.beams)[:, None]
    state = replace(
        state,
        memory=state.memory.follow(in_prompt.reshape(-1, plan.prompt_beams)),
        trail=state.trail.record(
            state.step, beams.parents, beams.tokens, beams.logprobs
        ),
        tokens=beams.tokens,
    )
    if not plan.reads_tokens:
        return state
    parents = _flat_rows(beams.parents, plan.beams)
    state, links = (
        replace(state, history=state.history[parents]),
        jax.tree.map(lambda leaf: leaf[parents], state.links),
    )
    drawn = Drawn(
        token=beams.tokens.reshape(-1),
        logprob=beams.logprobs.reshape(-1),
        context=contexts_of(job, state, vocab_size),
    )
    if job.chain.links:
        links = over_rows(lambda c, s, d: c.update(s, d), job.chain, links, drawn)
    history = _append(state.history, _lengths(job, state), drawn.token)
    return replace(state, history=history, links=links)


def contexts_of(job: BeamJob, state: BeamState, vocab_size: int) -> Context:
    """Return what every beam knows of its past, leaves [N * K, ...]."""
    lengths = _lengths(job, state)
    return Context(
        tokens=state.history,
        length=lengths,
        prompt_length=jnp.repeat(job.prompt_lengths, job.plan.beams),
        key=None if job.keys is None else _beam_keys(job, lengths),
        vocab_size=vocab_size,
    )


def prompt_step_keys(job: BeamJob, state: BeamState):
    """Return the keys [N] of this step's draw: row key and absolute position."""
    if job.keys is None:
        return None
    keys = jnp.repeat(job.keys, job.plan.groups)
    return step_keys(keys, job.prompt_lengths + state.step)


def _beam_keys(job: BeamJob, lengths: jax.Array) -> jax.Array:
    """Return keys of the links that draw: a step key folded with the beam's number."""
    beams = job.plan.prompt_beams
    steps = step_keys(jnp.repeat(job.keys, beams), lengths)
    numbers = jnp.arange(steps.shape[0], dtype=jnp.int32) % beams
    return jax.vmap(jax.random.fold_in)(steps, numbers)


def _lengths(job: BeamJob, state: BeamState) -> jax.Array:
    return jnp.repeat(job.prompt_lengths, job.plan.beams) + state.step


def _candidate_contexts(
    job: BeamJob, state: BeamState, pool: Pool, vocab_size: int
) -> Context:
    """Return the tokens of every candidate, for scorings that read them."""
    beams, (rows, count) = job.plan.beams, pool.values.shape
    lengths = jnp.broadcast_to(
        (job.prompt_lengths + state.step)[:, None], (rows, count)
    )
    parents = _flat_rows(pool.parents, beams)
    tokens = _append(
        state.history[parents], lengths.reshape(-1), pool.tokens.reshape(-1)
    )
    return Context(
        tokens=tokens.reshape(rows, count, -1),
        length=lengths + 1,
        prompt_length=jnp.broadcast_to(job.prompt_lengths[:, None], (rows, count)),
        key=None,
        vocab_size=vocab_size,
    )


def _flat_rows(parents: jax.Array, beams: int) -> jax.Array:
    start = jnp.arange(parents.shape[0], dtype=jnp.int32)[:, None] * beams
    return (start + parents).reshape(-1)


def _append(tokens: jax.Array, lengths: jax.Array, new: jax.Array) -> jax.Array:
    rows = jnp.arange(tokens.shape[0])
    return tokens.at[rows, lengths].set(new, mode="drop")


def _first_history(prompts: Prompts, beams: int, steps: int) -> jax.Array:
    tokens = jnp.pad(jnp.asarray(prompts.tokens), ((0, 0), (0, steps)))
    return jnp.repeat(tokens, beams, axis=0)


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
