"""The plain meaning of a chain: rows of logits in, processed rows out.

Every truncation sees the whole sorted row, and the row is put back in vocabulary order.
`edit` is the first half of that, which the draw uses too; the second half is `tail`.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform
from jaxdecode.native import current_platform
from jaxdecode.sampling.lift import are_off, over_rows
from jaxdecode.sampling.selection import select, unsort
from jaxdecode.sampling.tail import Views, run_tail
from jaxdecode.transforms import Chain, Context, Edit, Link, Scale
from jaxdecode.transforms.base import overrides


def process(
    chain: Chain,
    logits: jax.Array,
    contexts: Context,
    states: Any,
    *,
    platform: Platform | None = None,
) -> jax.Array:
    """Return the processed rows, float32 [B, V]: what the token is drawn from.

    Args:
      chain: the links, parameters scalar or [B].
      logits: float32 [B, V].
      contexts: `Context` with leaves [B, ...].
      states: the links' states, leaves [B, ...].
      platform: what the program is compiled for; None is this process's. Static.
    """
    return process_seen(chain, logits, contexts, states, platform=platform)[0]


def process_seen(
    chain: Chain,
    logits: jax.Array,
    contexts: Context,
    states: Any,
    *,
    platform: Platform | None = None,
) -> tuple[jax.Array, Views]:
    """Return the processed rows, and what each observing link saw (see `run_tail`)."""
    platform = current_platform() if platform is None else platform
    rows = edit(chain, logits, contexts, states, gates=platform.gates)
    head = len(chain.head)
    views: Views = [None] * head
    pairs = zip(chain.tail, states[head:], strict=True)
    for edits, run in itertools.groupby(pairs, lambda pair: isinstance(pair[0], Edit)):
        links, of_run = zip(*run, strict=True)
        if edits:
            rows, seen = run_edits(links, rows, contexts, of_run), [None] * len(links)
        else:
            rows, seen = _sorted_tail(links, rows, contexts, of_run, platform)
        views += seen
    return rows, views


def edit(
    chain: Chain,
    logits: jax.Array,
    contexts: Context,
    states: Any,
    *,
    gates: bool = True,
) -> jax.Array:
    """Return the rows after the links that come before any truncation, [B, V].

    With `gates` (static) neighbouring links that are off for every row are skipped
    together: inside `vmap` a `cond` would run both ways, so the gate is here.
    """
    rows, pairs = logits, zip(chain.head, states, strict=False)
    for may_rest, run in itertools.groupby(pairs, lambda pair: _may_rest(pair[0])):
        links, of_run = zip(*run, strict=True)
        act = _edits_unless_off if may_rest and gates else run_edits
        rows = act(links, rows, contexts, of_run)
    return rows


def scale_rows(
    chain: Chain, rows: jax.Array, contexts: Context, states: Any, *, gates: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Apply the scales of the tail alone: what remains if nothing is cut.

    With `gates` (static) they are skipped where they change no row.

    Returns:
      The rows [B, V], and which of them no scale changes, bool [B].
    """
    links = scales_of(chain)
    pairs = zip(chain.tail, states[len(chain.head) :], strict=True)
    of_links = tuple(state for link, state in pairs if isinstance(link, Scale))
    if links:
        act = _edits_unless_off if gates else run_edits
        rows = act(links, rows, contexts, of_links)
    return rows, are_off(links, rows.shape[0])


def scales_of(chain: Chain) -> tuple[Scale, ...]:
    """Return the scales of the tail."""
    return tuple(link for link in chain.tail if isinstance(link, Scale))


def _sorted_tail(links, rows, contexts, states, platform) -> tuple[jax.Array, Views]:
    def in_order(row, context):
        return select(row, context, row.shape[0], platform=platform)

    done, views = run_tail(links, jax.vmap(in_order)(rows, contexts), states)
    return jax.vmap(unsort)(done), views


def _may_rest(link: Link) -> bool:
    return overrides(link, Link.is_off)


@jax.custom_jvp
def _edits_unless_off(links: Sequence[Link], rows, contexts, states) -> jax.Array:
    return jax.lax.cond(
        jnp.all(are_off(links, rows.shape[0])),
        lambda *given: given[1],
        run_edits,
        *(links, rows, contexts, states),
    )


@_edits_unless_off.defjvp
def _edits_slope(primals, tangents):
    """A neutral parameter changes nothing, but it has a slope."""
    return jax.jvp(run_edits, primals, tangents)


def run_edits(links: Sequence[Link], rows, contexts, states) -> jax.Array:
    """Return rows [B, V] after edits and scales, which act on the row as it lies."""

    def one_row(links, row, context, states):
        for link, state in zip(links, states, strict=True):
            row = link(row, context, state)
        return row

    return over_rows(one_row, links, rows, contexts, states)
