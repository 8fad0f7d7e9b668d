"""Drawing from windows of candidates, the smallest that is complete for each row.

The first window is tried for the whole batch at once. Rows that it cannot hold are few
in a batch of text, so they are taken together in small groups, and a larger window, or
the sort of the whole vocabulary, costs what these rows cost.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.numerics import finite_or_zero, log_sum_exp, logprob_of
from jaxdecode.core.platform import Platform
from jaxdecode.core.pytree import pytree, replace
from jaxdecode.core.rows import put_rows, take_rows
from jaxdecode.core.varying import vary_like
from jaxdecode.sampling.noise import gumbel_at
from jaxdecode.sampling.selection import select
from jaxdecode.sampling.stats import RowStats
from jaxdecode.sampling.tail import observe, run_tail
from jaxdecode.transforms import Candidates, Chain, Context

# XLA on CPU computes what it fuses into a reduction of pairs one entry after another, the
# logarithms of noise included: 1.4 ms for a row of 49152, 0.1 in two reductions.
PAIRS_MAX = 1024


@pytree
class Found:
    """The tokens that were drawn so far, leaves [B, ...].

    Attributes:
      token: int32 [B]; 0 where none was drawn yet.
      logprob: float32 [B], under the distribution it was drawn from.
      seen: what each link observed of its row and the token; None if none observes.
    """

    token: jax.Array
    logprob: jax.Array
    seen: Any = None

    def merge(self, mask: jax.Array, new: "Found") -> "Found":
        """Return `new` where `mask`, bool [B], is True."""

        def pick(new, old):
            return jnp.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(pick, new, self)


@pytree
class Batch:
    """What a draw from candidates needs of each row.

    Attributes:
      chain: the links.
      rows: the rows after the edits.
      contexts: the rows' past, with their step keys.
      states: the links' states.
    """

    chain: Chain
    rows: RowStats
    contexts: Context
    states: Any


def draw_windowed(
    batch: Batch, todo: jax.Array, windows: Sequence[int], found: Found
) -> Found:
    """Draw the rows of `todo`; return `found` with theirs put in.

    Args:
      batch: the rows.
      todo: bool [B], which rows to draw.
      windows: sizes to try before the whole vocabulary, ascending. Static.
      found: what was drawn already.
    """
    if not batch.chain.cuts:
        return found
    count, vocab_size = batch.rows.rows.shape
    sizes = [size for size in windows if size < vocab_size] + [vocab_size]
    least = vary_like(jnp.zeros((count,), jnp.float32), todo)
    todo, found, least = draw_if_any(sizes[0], batch, todo, found, least)
    if sizes[1:] and count > batch.rows.platform.rows_per_group:
        return _in_groups(sizes[1:], batch, todo, found, least)
    for size in sizes[1:]:
        wanted = todo & ((least <= size) | (size == vocab_size))
        left, found, least = draw_if_any(size, batch, wanted, found, least)
        todo &= left | ~wanted
    return found


def draw_if_any(
    size: int, batch: Batch, todo: jax.Array, found: Found, least: jax.Array
) -> tuple[jax.Array, Found, jax.Array]:
    """Do as `draw_all` if any row is to be drawn; `least` of other rows stays."""

    def work(todo, found, least):
        left, found, new = draw_all(size, batch, todo, found)
        return left, found, jnp.where(todo, new, least)

    return jax.lax.cond(
        jnp.any(todo), work, lambda *given: given, *(todo, found, least)
    )


def draw_all(
    size: int, batch: Batch, todo: jax.Array, found: Found
) -> tuple[jax.Array, Found, jax.Array]:
    """Draw every row from its window; keep the results of rows that it could hold.

    Returns:
      Which rows of `todo`, bool [B], are still to be drawn, `found` with the others, and
      how many candidates a window of each must have at least, float32 [B].
    """
    chain, rows = batch.chain, batch.rows

    def one_row(row, maxima, context):
        return select(row, context, size, maxima, platform=rows.platform)

    kept = jax.vmap(one_row)(rows.rows, rows.maxima, batch.contexts)
    kept = replace(kept, whole_log_z=rows.log_z)
    head = len(chain.head)
    gates = rows.platform.gates
    kept, views = run_tail(chain.tail, kept, batch.states[head:], gates=gates)
    token, logprob = _draw_candidates(kept, rows.rows.shape[1], rows.platform)
    seen = observe(chain, [None] * head + views, token)
    done = todo & kept.closed & ~kept.broken
    return todo & ~done, found.merge(done, Found(token, logprob, seen)), kept.least


def _in_groups(
    sizes: Sequence[int], batch: Batch, todo: jax.Array, found: Found, least: jax.Array
) -> Found:
    """Draw the rows of `todo` in small groups, each from the smallest window left.

    In ordinary Python:

        stage = [which of `sizes` is the first that may do for each row of `todo`]
        while min(stage) < done:
            group = the first rows of stage min(stage)
            draw the group from windows of sizes[min(stage)]
            the stage of rows that it could hold is `done`, that of the others rises

    One body serves all groups, so that taking and putting rows is compiled once. It is
    a scan whose idle turns cost nothing, because a `while` has no slope.
    """
    count, group = todo.shape[0], batch.rows.platform.rows_per_group
    done = len(sizes)
    first = sum((least > size).astype(jnp.int32) for size in sizes[:-1])
    stage = jnp.where(todo, first, done).astype(jnp.int32)
    place = jnp.arange(count, dtype=jnp.float32)  # the sort of floats is the fast one

    def draw_group(stage, found):
        now = jnp.min(stage)
        first = jax.lax.top_k(-jnp.where(stage == now, place, count), group)[0]
        index = (-first).astype(jnp.int32)  # `count` where the group has fewer
        some, old = take_rows((batch, found), jnp.minimum(index, count - 1))
        wanted = index < count
        work = [lambda s=size: draw_all(s, some, wanted, old)[:2] for size in sizes]
        left, new = jax.lax.switch(now, work)
        return put_rows((stage, found), index, (jnp.where(left, now + 1, done), new))

    def turn(carry, _):
        go_on = jnp.any(carry[0] < done)
        return jax.lax.cond(go_on, draw_group, lambda *same: same, *carry), None

    def run(stage, found):
        turns = done * -(-count // group)
        return jax.lax.scan(turn, (stage, found), None, length=turns)[0][1]

    return jax.lax.cond(jnp.any(todo), run, lambda stage, found: found, *(stage, found))


def _draw_candidates(
    kept: Candidates, vocab_size: int, platform: Platform
) -> tuple[jax.Array, jax.Array]:
    """Draw from closed candidates [B, K]; ties of the score go to the lower id."""

    def one_row(row: Candidates):
        noise = gumbel_at(row.context.key, row.ids, vocab_size, platform=platform)
        scores = jax.lax.stop_gradient(row.values + noise)
        token = _id_of_best(scores, row.ids, vocab_size, platform)
        return token, jnp.max(jnp.where(row.ids == token, row.values, -jnp.inf))

    token, value = jax.vmap(one_row)(kept)
    best = finite_or_zero(jax.vmap(lambda row: row.best)(kept))
    return token, logprob_of(value, best, log_sum_exp(kept.values, best))


def _id_of_best(
    scores: jax.Array, ids: jax.Array, vocab_size: int, platform: Platform
) -> jax.Array:
    """Return the lowest of the ids [K] that have the largest of the scores [K]."""
    if platform.reduces_pairs and scores.shape[0] <= PAIRS_MAX:
        worst = jnp.float32(-jnp.inf), jnp.int32(vocab_size)
        return jax.lax.reduce((scores, ids), worst, _better, (0,))[1]
    if platform.reduces_pairs:  # reductions of integers are slow there; ids are exact
        ids = ids.astype(jnp.float32)
    first = jnp.min(jnp.where(scores == jnp.max(scores), ids, vocab_size))
    return first.astype(jnp.int32)


def _better(one, other):
    """Return the better of two pairs of a score and its id."""
    (score, token), (score_b, token_b) = one, other
    wins = (score > score_b) | ((score == score_b) & (token < token_b))
    return jnp.where(wins, score, score_b), jnp.where(wins, token, token_b)
