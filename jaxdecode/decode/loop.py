"""The loop in pieces: prefill, one step, and three ways of repeating it.

In ordinary Python, for one row:

    logits = model(prompt)[-1]
    while True:
        row = logits after every link
        token = categorical(fold_in(row_key, len(tokens)), row)
        tokens.append(token)
        if token in eos_ids or len(tokens) - len(prompt) == budget: break
        if tokens[len(prompt):] ends in a stop: break
        logits = model(tokens)[-1]

The compiled form runs all rows together with a cache; rows that ended stay as they are.
"""

import jax
import jax.numpy as jnp

from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import replace
from jaxdecode.core.status import Status
from jaxdecode.decode.observe import look, nothing_yet
from jaxdecode.decode.prefill import prefill
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.state import Job, State, contexts_of, is_running
from jaxdecode.decode.stops import patience
from jaxdecode.sampling import Draw, draw, over_rows
from jaxdecode.transforms import Context, Drawn


def start(
    model: Model, prompts: Prompts, job: Job, *, reversible: bool = False
) -> State:
    """Read the prompts; the state is ready for the first draw of every row.

    Each prompt is read once; its cache and logits are then repeated for its samples.
    """
    count, width = prompts.tokens.shape
    columns = min(width + job.new_tokens_max, model.max_length)
    cache = model.init_cache(count, columns)
    logits, cache = prefill(model, prompts, cache, reversible=reversible)

    rows = job.prompt_lengths.shape[0]
    logits, cache, tokens = _repeat((logits, cache, prompts.tokens), rows // count)
    state = State(
        cache=cache,
        tokens=jnp.pad(tokens, ((0, 0), (0, columns - width))),
        lengths=job.prompt_lengths,
        status=_first_status(job.prompt_lengths, width),
        links=(),
        cursors=() if job.stops is None else job.stops.start(rows),
        logits=logits,
        step=jnp.int32(0),
        model_logprobs=jnp.zeros((rows, job.new_tokens_max), jnp.float32),
        sampling_logprobs=jnp.zeros((rows, job.new_tokens_max), jnp.float32),
        observed=nothing_yet(job.wishes, rows, job.new_tokens_max),
    )
    contexts = contexts_of(job, state, model)
    links = over_rows(lambda chain, context: chain.init(context), job.chain, contexts)
    return replace(state, links=links)


def extend(model: Model, job: Job, state: State) -> State:
    """Draw one token for every running row from its logits and append it."""
    contexts = contexts_of(job, state, model)
    drawn = draw(job.chain, state.logits, contexts, state.links, own=True)
    running = is_running(state)
    write = running & drawn.valid
    lengths = state.lengths + write.astype(jnp.int32)

    rows = jnp.arange(state.tokens.shape[0])
    column = jnp.where(write, state.lengths, state.tokens.shape[1])
    tokens = state.tokens.at[rows, column].set(drawn.token, mode="drop")
    cursors, stopped = _look_for_stops(job, state, drawn.token, tokens, lengths)
    ended = _status(
        job, drawn.token, drawn.valid, lengths - job.prompt_lengths, stopped
    )
    seen = look(job.wishes, job.chain, state.logits, contexts, state.links, drawn.token)
    return replace(
        state,
        tokens=tokens,
        lengths=lengths,
        cursors=cursors,
        status=jnp.where(running, ended, state.status),
        links=_update_links(job, state, drawn, contexts),
        step=state.step + 1,
        model_logprobs=_emit(
            state.model_logprobs, state.step, drawn.own_logprob, write
        ),
        sampling_logprobs=_emit(
            state.sampling_logprobs, state.step, drawn.logprob, write
        ),
        observed={
            name: _emit(state.observed[name], state.step, value, write)
            for name, value in seen.items()
        },
    )


def read(model: Model, state: State) -> State:
    """Feed every row's last token to the model and keep the logits behind it."""
    position = jnp.maximum(state.lengths - 1, 0)
    last = jnp.take_along_axis(state.tokens, position[:, None], axis=1)
    at = jnp.zeros_like(position)
    logits, cache = model(last, position[:, None], state.cache, at=at)
    return replace(state, logits=logits, cache=cache)


def advance(model: Model, job: Job, state: State) -> State:
    """Bring every running row one token further.

    The first draw takes the logits that the prompt left; any later one first reads the
    token before it. So no token is read that nothing follows, and the draw, the larger
    part of the program, is compiled once.
    """
    state = jax.lax.cond(
        state.step > 0, lambda state: read(model, state), lambda state: state, state
    )
    return extend(model, job, state)


def run_while(model: Model, job: Job, state: State, *, until, steps: int) -> State:
    """Advance until every row has ended or `until` draws were made.

    Args:
      model: the model.
      job: what was asked for.
      state: after `start`.
      until: int32, the number of draws at which to pause; may be traced.
      steps: tokens between two looks at whether all rows have ended. Static.
    """

    def go_on(state: State):
        return jnp.any(is_running(state)) & (state.step < until)

    def body(state: State):
        if steps == 1:
            return advance(model, job, state)
        return jax.lax.scan(
            lambda s, _: (advance(model, job, s), None), state, None, length=steps
        )[0]

    return jax.lax.while_loop(go_on, body, state)


def run_scan(model: Model, job: Job, state: State) -> State:
    """Advance exactly `new_tokens_max` times; differentiable in reverse."""

    def body(state: State, _):
        return advance(model, job, state), None

    return jax.lax.scan(body, state, None, length=job.new_tokens_max)[0]


def _first_status(prompt_lengths: jax.Array, width: int) -> jax.Array:
    """Rows whose prompt is empty or longer than its array never start.

    Only lengths that were traced can be so; others were refused on the host.
    """
    sound = (prompt_lengths >= 1) & (prompt_lengths <= width)
    return jnp.where(sound, int(Status.RUNNING), int(Status.INVALID)).astype(jnp.int32)


def _update_links(job: Job, state: State, drawn: Draw, contexts: Context):
    known = Drawn(
        token=drawn.token, logprob=drawn.logprob, context=contexts, seen=drawn.seen
    )
    return over_rows(
        lambda chain, links, known: chain.update(links, known),
        job.chain,
        state.links,
        known,
    )


def _look_for_stops(job: Job, state: State, token, tokens, lengths):
    """Return the stops' new state, and which rows a stop ends, if any can."""
    if job.stops is None:
        return state.cursors, None
    begins = job.prompt_lengths
    rows = (state.cursors, token, tokens, lengths, begins)
    cursors, hit = jax.vmap(job.stops.advance)(*rows)
    return cursors, hit & (lengths - begins > patience(job.chain))


def _status(job: Job, token, valid, generated, stopped) -> jax.Array:
    is_eos = jnp.any(token[:, None] == job.eos_ids[None, :], axis=1)
    status = jnp.where(generated >= job.budgets, int(Status.LENGTH), 0)
    if stopped is not None:
        status = jnp.where(stopped, int(Status.STOP), status)
    status = jnp.where(is_eos, int(Status.EOS), status)
    return jnp.where(valid, status, int(Status.INVALID)).astype(jnp.int32)


def _emit(buffer: jax.Array, step, values, write) -> jax.Array:
    """Write one column; rows that drew nothing, and steps beyond the end, are dropped."""
    column = jnp.where(write, step, buffer.shape[1])
    return buffer.at[jnp.arange(buffer.shape[0]), column].set(values, mode="drop")


def _repeat(tree, times: int):
    if times == 1:
        return tree
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, times, axis=0), tree)
