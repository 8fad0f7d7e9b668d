"""The draw: one token per row, equal to `jax.random.categorical(step_key, row)`.

`row` is the processed row of `process`. No row is sorted unless it must be: greedy rows
take their first maximum, rows without an active truncation take a Gumbel-max over the
vocabulary, and all others draw from a small window of candidates, from a larger one
only if theirs was not certain to be complete. Each kind of work runs under one gate for
the batch, and a row takes the result of its own kind, so neighbours cannot change it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform
from jaxdecode.core.pytree import pytree
from jaxdecode.core.varying import vary_like
from jaxdecode.native import current_platform
from jaxdecode.sampling.lift import are_greedy, are_off
from jaxdecode.sampling.order import arg_max
from jaxdecode.sampling.past import changes_past, edit_past
from jaxdecode.sampling.processing import edit, process_seen
from jaxdecode.sampling.stats import RowStats, logprobs_of, row_stats
from jaxdecode.sampling.straight import draw_straight, edited_straight, straight_stats
from jaxdecode.sampling.tail import observe
from jaxdecode.sampling.whole import draw_whole, gumbel_max
from jaxdecode.sampling.window import Batch, Found, draw_windowed
from jaxdecode.transforms import Chain, Context


@pytree
class Draw:
    """The result of a draw, one entry per row.

    Attributes:
      token: int32 [B]; meaningless where `valid` is False.
      logprob: float32 [B], under the distribution it was drawn from.
      valid: bool [B], False for NaN, +inf or a row with every token banned.
      own_logprob: float32 [B], under the model's own distribution; None if not asked
        for.
      seen: what each link observed of its row and the token; None if none observes.
    """

    token: jax.Array
    logprob: jax.Array
    valid: jax.Array
    own_logprob: jax.Array | None = None
    seen: Any = None


def draw(
    chain: Chain,
    logits: jax.Array,
    contexts: Context,
    states: Any,
    *,
    windows: Sequence[int] | None = None,
    own: bool = False,
    platform: Platform | None = None,
) -> Draw:
    """Draw one token per row.

    Args:
      chain: the links; every parameter a number or one per row.
      logits: float32 [B, V].
      contexts: `Context` with leaves [B, ...]; its keys are the step keys, consumed.
      states: the links' states.
      windows: sizes of candidate windows to try, ascending; None are the platform's.
        Static.
      own: whether to return the token's log-probability under the model's own
        distribution, too; its normaliser then serves rows that no edit changes. Static.
      platform: what the program is compiled for; None is this process's. Static.

    Returns:
      A `Draw`.
    """
    platform = current_platform() if platform is None else platform
    windows = platform.windows if windows is None else windows
    given = chain, logits, contexts, states
    past = None
    if chain.is_mixed:
        raw = _measured(logits, platform, own)
        found, valid = _draw_mixed(chain, raw, contexts, states)
    else:
        if changes_past(chain, logits.shape[1], contexts, platform):
            raw, rows, past = edit_past(*given, platform=platform)
        else:
            raw = _measured(logits, platform, own)
            edited = _edited if platform.gates else edited_straight
            rows = edited(chain, raw, contexts, states)
        found = _draw_kinds(Batch(chain, rows, contexts, states), windows)
        valid = raw.valid & rows.valid
    own_logprob = None
    if own:
        before = _take(logits, found.token) if past is None else past.take(found.token)
        own_logprob = raw.logprob_of(before)
    return Draw(found.token, found.logprob, valid, own_logprob, found.seen)


def _take(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    return jnp.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]


def _measured(logits: jax.Array, platform: Platform, own: bool) -> RowStats:
    if platform.gates:
        return row_stats(logits, platform=platform, with_log_z=own)
    return straight_stats(logits, platform=platform)


def _draw_mixed(chain: Chain, raw: RowStats, contexts: Context, states: Any):
    """Draw from processed rows, where edits follow truncations."""
    platform = raw.platform
    rows, views = process_seen(chain, raw.rows, contexts, states, platform=platform)
    measure = row_stats if platform.gates else straight_stats
    stats = measure(rows, platform=platform)
    token, value = gumbel_max(rows, contexts.key, stats.maxima, platform=platform)
    found = Found(token, logprobs_of(value, rows), observe(chain, views, token))
    return found, raw.valid & stats.valid


def _edited(chain: Chain, raw: RowStats, contexts: Context, states: Any) -> RowStats:
    """Return the rows after the edits; what was known of untouched ones still holds."""
    if not chain.head:
        return raw
    rows = edit(chain, raw.rows, contexts, states)
    untouched = are_off(chain.head, rows.shape[0])

    def anew(raw, rows):
        stats, log_z = row_stats(rows, platform=raw.platform), raw.log_z
        if stats.log_z is not None:
            log_z = stats.log_z
        elif log_z is not None:
            log_z = jnp.where(untouched, log_z, jnp.nan)
        return stats.maxima, stats.valid, log_z

    def as_before(raw, rows):
        return raw.maxima, raw.valid, raw.log_z

    maxima, valid, log_z = jax.lax.cond(
        jnp.all(untouched), as_before, anew, *(raw, rows)
    )
    return RowStats(rows, maxima, valid, log_z, raw.platform)


def _draw_kinds(batch: Batch, windows: Sequence[int]) -> Found:
    """Draw each row by its own kind of work."""
    chain, rows = batch.chain, batch.rows
    count = rows.valid.shape[0]
    nothing = jnp.zeros((count,), jnp.int32), jnp.zeros((count,), jnp.float32)
    found = Found(*vary_like(nothing, rows.valid))
    if chain.observes:
        found = _nothing_seen(batch, found)
    greedy, plain = _kinds(chain, count)
    if not rows.platform.gates:
        return draw_straight(batch, tuple(windows), greedy, plain, found)
    if chain.observes:  # every row must be seen by the links that observe
        return draw_windowed(batch, rows.valid, windows, found)
    windowed = rows.valid & ~greedy & ~plain

    def take_best(found):
        best = jax.vmap(arg_max)(rows.rows, rows.maxima)
        return found.merge(greedy, Found(best, jnp.zeros_like(found.logprob)))

    def draw_plain(found):
        return found.merge(plain, Found(*draw_whole(batch)))

    found = _gate(rows.valid & greedy, take_best, found)
    found = _gate(rows.valid & plain, draw_plain, found)
    return draw_windowed(batch, windowed, windows, found)


def _nothing_seen(batch: Batch, found: Found) -> Found:
    """Return `found` with zeros where observations will stand."""

    def seen(batch: Batch):
        given = batch.chain, batch.rows.rows, batch.contexts, batch.states
        _, views = process_seen(*given, platform=batch.rows.platform)
        return observe(batch.chain, views, found.token)

    shapes = jax.eval_shape(seen, batch)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return Found(found.token, found.logprob, vary_like(blank, found.token))


def _kinds(chain: Chain, rows: int) -> tuple[jax.Array, jax.Array]:
    """Return which rows are greedy, and which others have no active truncation."""
    greedy = jnp.zeros((rows,), bool)
    if all(link.keeps_argmax for link in chain.cuts):
        greedy = are_greedy(chain.links, rows)
    return greedy, are_off(chain.cuts, rows) & ~greedy


def _gate(wanted: jax.Array, work: Callable[[Found], Found], found: Found) -> Found:
    """Run `work` only if some row of the batch wants it."""
    return jax.lax.cond(jnp.any(wanted), work, lambda found: found, found)
