"""The draw: one token per row, equal to `jax.random.categorical(step_key, row)`.

`row` is the processed row of `process`. No row is sorted unless it must be: greedy rows
take their first maximum, rows without an active truncation take a Gumbel-max over the
vocabulary, and all others draw from a small window of candidates, from a larger one
only if theirs was not certain to be complete. Each kind of work runs under one gate for
the batch, and a row takes the result of its own kind, so neighbours cannot change it.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.numerics import is_valid
from jaxdecode.core.pytree import pytree
from jaxdecode.sampling.noise import gumbel_at
from jaxdecode.sampling.process import (
    edit,
    observe,
    process_seen,
    run_tail,
    scale_rows,
)
from jaxdecode.sampling.select import arg_max, select
from jaxdecode.transforms import Candidates, Chain, Context, Truncation
from jaxdecode.transforms.candidates import finite_or_zero

WINDOWS = (64, 1024)


@pytree
class Draw:
    """What a draw gives, one entry per row.

    Attributes:
      token: int32 [B]; meaningless where `valid` is False.
      logprob: float32 [B], under the distribution it was drawn from.
      valid: bool [B], False for NaN, +inf or a row with every token banned.
      seen: what each link observed of its row and the token; () if none observes.
    """

    token: jax.Array
    logprob: jax.Array
    valid: jax.Array
    seen: Any = ()


def draw(
    chain: Chain,
    logits: jax.Array,
    contexts: Context,
    states: Any,
    *,
    windows: Sequence[int] = WINDOWS,
) -> Draw:
    """Draw one token per row.

    Args:
      chain: the links; every parameter a number or one per row.
      logits: float32 [B, V].
      contexts: `Context` with leaves [B, ...]; its keys are the step keys, consumed.
      states: the links' states.
      windows: sizes of candidate windows to try, ascending. Static.

    Returns:
      A `Draw`.
    """
    rows = edit(chain, logits, contexts, states)
    valid = is_valid(logits) & is_valid(rows)
    if chain.is_mixed:
        rows, views = process_seen(chain, logits, contexts, states)
        token, logprob = _draw_whole(rows, contexts.key)
        seen = observe(chain, views, token) if chain.observes else ()
        return Draw(token, logprob, valid & is_valid(rows), seen)

    blank = (jnp.zeros(valid.shape, jnp.int32), jnp.zeros(valid.shape, jnp.float32))
    if chain.observes:  # every row must be seen by the links that observe
        found = (*blank, _nothing_seen(chain, rows, contexts, states))
        found = _draw_windowed(chain, rows, contexts, states, valid, windows, found)
        return Draw(found[0], found[1], valid, found[2])

    greedy, plain = _kinds(chain, logits.shape[0])
    windowed = valid & ~greedy & ~plain

    def take_best(found):
        return _merge(greedy, (jax.vmap(arg_max)(rows), blank[1]), found)

    def draw_plain(found):
        scaled = scale_rows(chain, rows, contexts, states)
        return _merge(plain & ~greedy, _draw_whole(scaled, contexts.key), found)

    found = _gate(valid & greedy, take_best, blank)
    found = _gate(valid & plain & ~greedy, draw_plain, found)
    found = _draw_windowed(chain, rows, contexts, states, windowed, windows, found)
    token, logprob = found
    return Draw(token, logprob, valid)


def _draw_windowed(chain, rows, contexts, states, todo, windows, found):
    """Draw the rows of `todo` from the smallest window that is complete for each."""
    if not any(isinstance(link, Truncation) for link in chain.tail):
        return found
    vocab_size = rows.shape[1]
    tail_states = states[len(chain.head) :]

    def from_window(size, todo, found):
        kept = jax.vmap(lambda row, context: select(row, context, size))(rows, contexts)
        kept, views = run_tail(chain.tail, kept, tail_states)
        settled = todo & kept.closed & ~kept.broken
        new = _draw_candidates(kept, vocab_size)
        if chain.observes:
            new = (*new, observe(chain, [None] * len(chain.head) + views, new[0]))
        return todo & ~settled, _merge(settled, new, found)

    for size in [w for w in windows if w < vocab_size] + [vocab_size]:
        todo, found = jax.lax.cond(
            jnp.any(todo),
            lambda todo, found, size=size: from_window(size, todo, found),
            lambda todo, found: (todo, found),
            todo,
            found,
        )
    return found


def _nothing_seen(chain, rows, contexts, states):
    """Return zeros where observations will stand."""

    def seen(rows, contexts, states):
        _, views = process_seen(chain, rows, contexts, states)
        return observe(chain, views, jnp.zeros(rows.shape[:1], jnp.int32))

    shapes = jax.eval_shape(seen, rows, contexts, states)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _kinds(chain: Chain, rows: int) -> tuple[jax.Array, jax.Array]:
    """Say of each row whether it is greedy, and whether no truncation is active."""

    def among(values):
        flags = [jnp.broadcast_to(jnp.asarray(v), (rows,)) for v in values]
        return jnp.stack(flags) if flags else jnp.zeros((0, rows), bool)

    cuts = [link for link in chain.tail if isinstance(link, Truncation)]
    greedy = jnp.any(among(link.is_greedy() for link in chain.links), axis=0)
    if not all(link.keeps_argmax for link in cuts):
        greedy = jnp.zeros_like(greedy)
    return greedy, jnp.all(among(link.is_off() for link in cuts), axis=0)


def _draw_candidates(kept: Candidates, vocab_size: int):
    """Draw from a batch of closed candidates; ties of the score go to the lower id."""

    def one_row(row: Candidates):
        score = row.values + gumbel_at(row.context.key, row.ids, vocab_size)
        is_best = score == jnp.max(score)
        token = jnp.min(jnp.where(is_best, row.ids, vocab_size))
        return token, jnp.max(jnp.where(row.ids == token, row.values, -jnp.inf))

    token, value = jax.vmap(one_row)(kept)
    return token, log_share(value, kept.values)


def _draw_whole(rows: jax.Array, keys: jax.Array):
    """Draw from whole rows [B, V] by Gumbel-max over the vocabulary."""
    ids = jnp.arange(rows.shape[1], dtype=jnp.int32)

    def one_row(row, key):
        token = arg_max(row + gumbel_at(key, ids, row.shape[0]))
        return token, row[token]

    token, value = jax.vmap(one_row)(rows, keys)
    return token, log_share(value, rows)


def log_share(value: jax.Array, rows: jax.Array) -> jax.Array:
    """Return the log-probabilities [B] of entries with `value` [B] in rows [B, K]."""
    best = finite_or_zero(jnp.max(rows, axis=1))  # exact far from 0, too
    total = jnp.sum(jnp.exp(rows - best[:, None]), axis=1)
    return (value - best) - jnp.log(total)


def _gate(wanted: jax.Array, work, found):
    """Run `work` only if some row of the batch wants it."""
    return jax.lax.cond(jnp.any(wanted), work, lambda found: found, found)


def _merge(mask: jax.Array, new, old):
    return jax.tree.map(lambda n, o: jnp.where(mask, n, o), new, old)
