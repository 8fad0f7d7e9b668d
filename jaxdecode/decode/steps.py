"""The loop in pieces: prefill, one step, and the way to the end.

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

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import varying
from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model, for_platform, logits_of
from jaxdecode.core.pytree import replace
from jaxdecode.core.rows import repeat_rows, resolve_banks, row_axes
from jaxdecode.core.status import Status
from jaxdecode.decode.loops import Stages, drive_by_stages, stages_that_pay
from jaxdecode.decode.observables import blank, observe_step
from jaxdecode.decode.prefilling import prefill
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.rows import Rows, any_running, contexts_of, is_running
from jaxdecode.native import current_platform
from jaxdecode.sampling import Draw, draw, init_rows, update_rows
from jaxdecode.transforms import Context, Drawn


def start(
    model: Model,
    prompts: Prompts,
    rows: Rows,
    *,
    new_tokens_max: int,
    platform: Platform,
    columns: int | None = None,
    reversible: bool = False,
) -> Rows:
    """Read the prompts; every row is then ready for its first draw.

    Each prompt is read once; its cache and logits are then repeated for its samples.

    Args:
      model: the model.
      prompts: B of them.
      rows: what was asked for, R rows, a multiple of B, prompt-major.
      new_tokens_max: columns of what is emitted, N. Static.
      platform: what the program is compiled for. Static.
      columns: of the token buffer and the cache, T; None is as many as these prompts
        and new tokens can need. Static.
      reversible: whether the result can be differentiated in reverse. Static.
    """
    count, width = prompts.tokens.shape
    length = columns or min(width + new_tokens_max, model.max_length)
    logits, cache = prefill(
        model,
        prompts,
        model.init_cache(count, length),
        platform=platform,
        reversible=reversible,
    )
    tokens = jnp.pad(jnp.asarray(prompts.tokens), ((0, 0), (0, length - width)))
    total = rows.prompt_length.shape[0]
    logits, cache, tokens = repeat_rows((logits, cache, tokens), total // count)
    return begin(
        rows, cache, tokens, logits, new_tokens_max=new_tokens_max, width=width
    )


def begin(
    rows: Rows,
    cache: Any,
    tokens: jax.Array,
    logits: jax.Array,
    *,
    new_tokens_max: int,
    width: int,
) -> Rows:
    """Return rows whose prompts were read, ready for their first draw.

    Args:
      rows: what was asked for, R rows.
      cache: holds their prompts.
      tokens: int32 [R, T], their prompts.
      logits: float32 [R, V] after the prompts.
      new_tokens_max: columns of what is emitted, N. Static.
      width: columns that a prompt may have; a longer one never starts. Static.
    """
    total = rows.prompt_length.shape[0]
    rows = replace(
        rows,
        cache=cache,
        tokens=tokens,
        length=jnp.asarray(rows.prompt_length),
        status=_first_status(rows, width),
        cursor=None if rows.stops is None else jnp.zeros((total,), jnp.int32),
        logits=logits,
        unread=jnp.zeros((total,), bool),
        model_logprobs=jnp.zeros((total, new_tokens_max), jnp.float32),
        sampling_logprobs=jnp.zeros((total, new_tokens_max), jnp.float32),
        observed=blank(rows.observables, total, new_tokens_max),
    )
    # Nothing is drawn: a key is hashed, which is a hundred operations, for links only.
    key = rows.key if rows.chain.is_stochastic else None
    contexts = contexts_of(replace(rows, key=key), logits.shape[1])
    return replace(rows, links=init_rows(rows.chain, contexts))


def step(
    model: Model, rows: Rows, *, platform: Platform, reversible: bool = False
) -> Rows:
    """Bring every running row one token further."""
    rows, logits = forward(model, rows, platform=platform, reversible=reversible)
    return sample(rows, logits, platform=platform)


def forward(
    model: Model,
    rows: Rows,
    *,
    platform: Platform | None = None,
    reversible: bool = False,
) -> tuple[Rows, jax.Array]:
    """Read every last token that is unread; return the rows and logits [R, V].

    A row without one takes the logits after its prompt. Beside rows that have one its
    last token is read again, which writes the same column.

    Args:
      model: the model.
      rows: the rows.
      platform: what the program is compiled for; None is this process's. Static.
      reversible: whether the result can be differentiated in reverse. Static.
    """
    platform = platform or current_platform()
    unread = rows.unread & is_running(rows)

    def read(cache):
        position = jnp.maximum(rows.length - 1, 0)
        last = jnp.take_along_axis(rows.tokens, position[:, None], axis=1)
        at = jnp.zeros_like(position)
        logits, cache = logits_of(model, last, position[:, None], cache, at=at)
        select = reversible or not platform.gates
        keep = _select_rows if select else _put_few_rows
        return keep(~rows.unread & is_running(rows), rows.logits, logits), cache

    if not platform.branches_on_device:  # reading too much is cheaper than asking
        logits, cache = read(rows.cache)
        return replace(rows, cache=cache), logits
    # No token is read that nothing follows, and the draw is compiled once.
    logits, cache = varying.cond(
        jnp.any(unread), read, lambda cache: (rows.logits, cache), rows.cache
    )
    return replace(rows, cache=cache), logits


def sample(rows: Rows, logits: jax.Array, *, platform: Platform) -> Rows:
    """Draw one token for every running row from its logits and append it."""
    contexts = contexts_of(rows, logits.shape[1])
    given = (rows.chain, logits, contexts, rows.links)
    drawn = draw(*given, own=True, platform=platform)
    seen = observe_step(rows.observables, *given, drawn.token, platform=platform)
    known = Drawn(
        token=drawn.token, logprob=drawn.logprob, context=contexts, seen=drawn.seen
    )
    links = update_rows(rows.chain, rows.links, known)
    drawn = replace(drawn, seen=seen)
    # What `_append` does not need would be moved through `vmap` for nothing.
    few = replace(rows, cache=None, links=None, logits=None, key=None)
    changes = jax.vmap(_append, in_axes=(row_axes(few), 0))(few, drawn)
    return replace(rows, links=links, **changes)


def finish(
    model: Model, rows: Rows, *, width: int, platform: Platform, limit: Any = None
) -> Rows:
    """Bring every row to its end, or so many tokens further, through the stages.

    Args:
      model: the model.
      rows: the rows.
      width: columns that a prompt may have, its padding included; 0 where rows of any
        length come and go. Static.
      platform: what the program is compiled for. Static.
      limit: int32, the most steps; may be traced. None is no limit.
    """

    def one(rows, platform):
        return step(for_platform(model, platform), rows, platform=platform)

    def longest(rows):
        return jnp.max(jnp.where(is_running(rows), rows.length, 0))

    # Prompts are padded to at most twice the longest one, so that it is in no earlier
    # stage.
    there = stages_that_pay(model, width // 2, rows.tokens.shape[1], platform)
    stages = Stages(columns=there, in_use=longest)
    options: Any = {"platform": platform, "limit": limit}
    return drive_by_stages(one, rows, any_running, stages, **options)


def _first_status(rows: Rows, width: int) -> jax.Array:
    """Rows whose prompt, budget or parameters are out of range never start.

    Only what was traced can be so; the rest was refused on the host.
    """
    length = jnp.asarray(rows.prompt_length)
    valid = (length >= 1) & (length <= width) & (jnp.asarray(rows.budget) >= 1)
    valid &= rows.chain.is_sound(length.shape[0])
    return jnp.where(valid, int(Status.RUNNING), int(Status.INVALID)).astype(jnp.int32)


def _append(row: Rows, drawn: Draw) -> dict[str, Any]:
    """Return what changes in ONE row with the token that was drawn for it."""
    running = row.status == Status.RUNNING
    written = running & drawn.valid

    def put(buffer, column, value):
        # Chosen, not scattered, which XLA's CPU backend compiles as a loop over rows.
        here = written & (jnp.arange(buffer.shape[0]) == column)
        return jnp.where(here.reshape(-1, *[1] * np.ndim(value)), value, buffer)

    def emit(buffer, value):
        return put(buffer, row.length - row.prompt_length, value)

    tokens = put(row.tokens, row.length, drawn.token)
    length = row.length + written.astype(jnp.int32)
    cursor, status = _ending(replace(row, tokens=tokens, length=length), drawn)
    return {
        "tokens": tokens,
        "length": length,
        "status": jnp.where(running, status, row.status),
        "cursor": None if cursor is None else jnp.where(running, cursor, row.cursor),
        "unread": row.unread | written,
        "model_logprobs": emit(row.model_logprobs, drawn.own_logprob),
        "sampling_logprobs": emit(row.sampling_logprobs, drawn.logprob),
        "observed": {
            name: emit(row.observed[name], value) for name, value in drawn.seen.items()
        },
    }


def _ending(row: Rows, drawn: Draw) -> tuple[Any, jax.Array]:
    """Return ONE row's state among its stop strings, and its status after a token."""
    generated = row.length - row.prompt_length
    status = jnp.where(generated >= row.budget, int(Status.LENGTH), 0)
    cursor = row.cursor
    if row.stops is not None:
        cursor, stopped = row.stops.table.advance(
            cursor, drawn.token, row.tokens, row.length, row.prompt_length
        )
        stopped &= generated > resolve_banks(row.chain).earliest_end(_context(row))
        status = jnp.where(stopped, int(Status.STOP), status)
    is_end = jnp.any(drawn.token == row.ends)
    status = jnp.where(is_end, int(Status.EOS), status)
    status = jnp.where(drawn.valid, status, int(Status.INVALID))
    return cursor, status.astype(jnp.int32)


def _context(row: Rows) -> Context:
    """Return what ONE row knows of its past; it draws nothing."""
    return Context(
        tokens=row.tokens,
        length=row.length,
        prompt_length=row.prompt_length,
        key=None,
        vocab_size=0,
    )


def _select_rows(where: jax.Array, these: jax.Array, others: jax.Array) -> jax.Array:
    return jnp.where(where[:, None], these, others)


def _put_few_rows(where: jax.Array, these: jax.Array, others: jax.Array) -> jax.Array:
    """Do the same, but leave `others` where it lies: at most times no row is put."""
    order = jnp.argsort(~where, stable=True)

    def put(index, others):
        row = order[index]
        new = jax.lax.dynamic_index_in_dim(these, row, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(others, new, row, 0)

    return jax.lax.fori_loop(0, jnp.sum(where, dtype=jnp.int32), put, others)
