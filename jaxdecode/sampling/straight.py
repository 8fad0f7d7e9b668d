"""The draw for accelerators: every row does every kind of work, and takes its own.

A pass over the rows costs microseconds there, while a conditional is code, and on a GPU
a question to the host. So the best token, the Gumbel maximum and a window of candidates
are found for all rows, with no group and no gate. One conditional is left: rows that the
window cannot hold go to the whole sorted row. The tokens are those of `drawing`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.numerics import finite_or_zero, log_sum_exp, logprob_of
from jaxdecode.core.platform import Platform
from jaxdecode.sampling.noise import gumbel_at
from jaxdecode.sampling.processing import edit, scale_rows
from jaxdecode.sampling.stats import RowStats, chunk_maxima
from jaxdecode.sampling.window import Batch, Found, draw_all, draw_if_any
from jaxdecode.transforms import Chain, Context


def straight_stats(rows: jax.Array, *, platform: Platform) -> RowStats:
    """Return the statistics of rows [B, V], normalisers included, without chunks."""
    best = finite_or_zero(jnp.max(jax.lax.stop_gradient(rows), axis=-1))
    log_z = log_sum_exp(rows, best)
    maxima = chunk_maxima(rows) if platform.by_chunks else best[:, None]
    return RowStats(rows, maxima, jnp.isfinite(log_z), log_z, platform)


def edited_straight(
    chain: Chain, raw: RowStats, contexts: Context, states: Any
) -> RowStats:
    """Return the rows after the edits, with statistics of their own."""
    if not chain.head:
        return raw
    rows = edit(chain, raw.rows, contexts, states, gates=False)
    return straight_stats(rows, platform=raw.platform)


def draw_straight(
    batch: Batch,
    windows: tuple[int, ...],
    greedy: jax.Array,
    plain: jax.Array,
    found: Found,
) -> Found:
    """Draw every row by its own kind of work.

    Args:
      batch: the rows.
      windows: sizes of windows of candidates, of which the first is tried for all rows,
        and the others only where some row needs them, before the whole row. Static.
      greedy: bool [B], which rows take their first maximum.
      plain: bool [B], which others have no active truncation.
      found: tokens and log-probabilities of 0, and observations of 0 if links observe.
    """
    chain, rows = batch.chain, batch.rows
    vocab_size = rows.rows.shape[1]
    todo = rows.valid
    if not chain.observes:  # every row must be seen by the links that observe
        best = jnp.argmax(rows.rows, axis=-1).astype(jnp.int32)
        found = found.merge(greedy, Found(best, jnp.zeros_like(found.logprob)))
        found = found.merge(plain, _gumbel_maxima(batch))
        todo &= ~greedy & ~plain
    if not chain.cuts:
        return found
    sizes = [size for size in windows if size < vocab_size] + [vocab_size]
    todo, found, _ = draw_all(sizes[0], batch, todo, found)
    for size in sizes[1:]:
        unknown = jnp.zeros_like(found.logprob)
        todo, found, _ = draw_if_any(size, batch, todo, found, unknown)
    return found


def _gumbel_maxima(batch: Batch) -> Found:
    """Draw from whole rows without their truncations."""
    rows, vocab_size = batch.rows.rows, batch.rows.rows.shape[1]
    given = batch.chain, rows, batch.contexts, batch.states
    scaled, _ = scale_rows(*given, gates=False)
    ids = jnp.arange(vocab_size, dtype=jnp.int32)
    noise = jax.vmap(lambda key: gumbel_at(key, ids, vocab_size))(batch.contexts.key)
    token = jnp.argmax(jax.lax.stop_gradient(scaled) + noise, axis=-1)
    value = jnp.take_along_axis(scaled, token[:, None], axis=1)[:, 0]
    best = finite_or_zero(jnp.max(jax.lax.stop_gradient(scaled), axis=-1))
    logprob = logprob_of(value, best, log_sum_exp(scaled, best))
    return Found(token.astype(jnp.int32), logprob)
