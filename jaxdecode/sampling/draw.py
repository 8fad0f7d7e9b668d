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

from jaxdecode.core.pytree import pytree
from jaxdecode.sampling.order import arg_max
from jaxdecode.sampling.process import are_off, edit, observe, process_seen, scale_rows
from jaxdecode.sampling.sweep import Sweep, sweep
from jaxdecode.sampling.whole import draw_whole, gumbel_max, log_share
from jaxdecode.sampling.window import draw_windowed
from jaxdecode.transforms import Chain, Context, Scale, Truncation

WINDOWS = (64, 1024)


@pytree
class Draw:
    """What a draw gives, one entry per row.

    Attributes:
      token: int32 [B]; meaningless where `valid` is False.
      logprob: float32 [B], under the distribution it was drawn from.
      valid: bool [B], False for NaN, +inf or a row with every token banned.
      own_logprob: float32 [B], under the model's own distribution; () if not asked for.
      seen: what each link observed of its row and the token; () if none observes.
    """

    token: jax.Array
    logprob: jax.Array
    valid: jax.Array
    own_logprob: Any = ()
    seen: Any = ()


def draw(
    chain: Chain,
    logits: jax.Array,
    contexts: Context,
    states: Any,
    *,
    windows: Sequence[int] = WINDOWS,
    own: bool = False,
) -> Draw:
    """Draw one token per row.

    Args:
      chain: the links; every parameter a number or one per row.
      logits: float32 [B, V].
      contexts: `Context` with leaves [B, ...]; its keys are the step keys, consumed.
      states: the links' states.
      windows: sizes of candidate windows to try, ascending. Static.
      own: whether to say the token's log-probability under the model's own
        distribution, too; its normaliser then serves rows that no edit changes. Static.

    Returns:
      A `Draw`.
    """
    raw = sweep(logits, weighed=own)
    if chain.is_mixed:
        found, seen, valid = _draw_mixed(chain, raw, contexts, states)
    else:
        rows = _edited(chain, raw, contexts, states)
        found, seen = _draw_kinds(chain, rows, contexts, states, windows)
        valid = raw.valid & rows.valid
    token, logprob = found
    return Draw(token, logprob, valid, raw.share(token) if own else (), seen)


def _draw_mixed(chain, raw, contexts, states):
    """Draw from processed rows, where edits follow truncations."""
    rows, views = process_seen(chain, raw.rows, contexts, states)
    known = sweep(rows)
    token, value = gumbel_max(rows, contexts.key, known.maxima)
    seen = observe(chain, views, token) if chain.observes else ()
    return (token, log_share(value, rows)), seen, raw.valid & known.valid


def _edited(chain, raw, contexts, states) -> Sweep:
    """Return what is known of the rows behind the edits: of untouched ones, all."""
    if not chain.head:
        return raw
    rows = edit(chain, raw.rows, contexts, states)
    untouched = are_off(chain.head, rows.shape[0])
    maxima, valid = jax.lax.cond(
        jnp.all(untouched),
        lambda raw, _: (raw.maxima, raw.valid),
        lambda _, rows: ((new := sweep(rows)).maxima, new.valid),
        *(raw, rows),
    )
    log_z = raw.log_z
    if not isinstance(log_z, tuple):
        log_z = jnp.where(untouched, log_z, jnp.nan)
    return Sweep(rows=rows, maxima=maxima, valid=valid, log_z=log_z)


def _draw_kinds(chain, rows: Sweep, contexts, states, windows):
    """Draw each row by its own kind of work; return (token, logprob), what was seen."""
    count = rows.valid.shape[0]
    blank = (jnp.zeros((count,), jnp.int32), jnp.zeros((count,), jnp.float32))
    if chain.observes:  # every row must be seen by the links that observe
        found = (*blank, _nothing_seen(chain, rows.rows, contexts, states))
        *found, seen = draw_windowed(
            chain, rows, contexts, states, rows.valid, windows, found
        )
        return found, seen

    greedy, plain = _kinds(chain, count)
    plain &= ~greedy
    windowed = rows.valid & ~greedy & ~plain

    def take_best(found):
        best = jax.vmap(arg_max)(rows.rows, rows.maxima)
        return _merge(greedy, (best, blank[1]), found)

    def draw_plain(found):
        scaled = scale_rows(chain, rows.rows, contexts, states)
        scales = [link for link in chain.tail if isinstance(link, Scale)]
        unscaled = are_off(scales, count)
        return _merge(plain, draw_whole(rows, scaled, unscaled, contexts.key), found)

    found = _gate(rows.valid & greedy, take_best, blank)
    found = _gate(rows.valid & plain, draw_plain, found)
    found = draw_windowed(chain, rows, contexts, states, windowed, windows, found)
    return found, ()


def _nothing_seen(chain, rows, contexts, states):
    """Return zeros where observations will stand."""

    def seen(rows, contexts, states):
        _, views = process_seen(chain, rows, contexts, states)
        return observe(chain, views, jnp.zeros(rows.shape[:1], jnp.int32))

    shapes = jax.eval_shape(seen, rows, contexts, states)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _kinds(chain: Chain, rows: int) -> tuple[jax.Array, jax.Array]:
    """Say of each row whether it is greedy, and whether no truncation is active."""
    cuts = [link for link in chain.tail if isinstance(link, Truncation)]
    greedy = jnp.zeros((rows,), bool)
    if all(link.keeps_argmax for link in cuts):
        for link in chain.links:
            greedy |= jnp.asarray(link.is_greedy())
    return greedy, are_off(cuts, rows)


def _gate(wanted: jax.Array, work, found):
    """Run `work` only if some row of the batch wants it."""
    return jax.lax.cond(jnp.any(wanted), work, lambda found: found, found)


def _merge(mask: jax.Array, new, old):
    return jax.tree.map(lambda n, o: jnp.where(mask, n, o), new, old)
