"""Running a chain over a batch: the one place where links are lifted over rows.

`process` is the plain meaning of a chain: every truncation sees the whole sorted row,
and the row is put back in vocabulary order. `edit` and `run_tail` are its two halves
for the draw, which runs the tail on a window.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.pytree import replace
from jaxdecode.sampling.select import in_place, select, unsort
from jaxdecode.transforms import (
    Candidates,
    Chain,
    Context,
    Drawn,
    Edit,
    Link,
    Scale,
    Truncation,
)
from jaxdecode.transforms.candidates import narrow, rescale, weigh


def over_rows(function: Callable, chain: Chain, *batched: Any) -> Any:
    """Lift `function(chain, *one_row)` over a batch."""
    axes = (chain.axes(), *(0 for _ in batched))
    return jax.vmap(function, in_axes=axes)(chain, *batched)


def init_rows(chain: Chain, contexts: Context) -> Any:
    """Return the states of a chain's links for rows with `contexts`, leaves [B, ...]."""
    return over_rows(lambda c, context: c.init(context), chain, contexts)


def update_rows(chain: Chain, states: Any, drawn: Drawn) -> Any:
    """Return the states of a chain's links after one more token of each row."""
    return over_rows(lambda c, state, d: c.update(state, d), chain, states, drawn)


def process(chain: Chain, logits: jax.Array, contexts: Context, states: Any):
    """Return the processed rows, float32 [B, V]: what the token is drawn from.

    Args:
      chain: the links, parameters scalar or [B].
      logits: float32 [B, V].
      contexts: `Context` with leaves [B, ...].
      states: the links' states, leaves [B, ...].
    """
    return process_seen(chain, logits, contexts, states)[0]


def process_seen(chain: Chain, logits: jax.Array, contexts: Context, states: Any):
    """Return the processed rows, and what each observing link saw (see `run_tail`)."""
    rows = edit(chain, logits, contexts, states)
    links, rest = chain.tail, states[len(chain.head) :]
    views: list[Candidates | None] = [None] * len(chain.head)
    vocab_size = logits.shape[1]
    while links:
        stop = next(
            (i for i, link in enumerate(links) if isinstance(link, Edit)), len(links)
        )
        if stop:
            ordered = jax.vmap(lambda row, c: select(row, c, vocab_size))(
                rows, contexts
            )
            sorted_rows, seen = run_tail(links[:stop], ordered, rest[:stop])
            rows = jax.vmap(unsort)(sorted_rows)
            views += seen
        else:
            stop = 1
            rows = _edits(links[:1], rows, contexts, rest[:1])
            views.append(None)
        links, rest = links[stop:], rest[stop:]
    return rows, views


def edit(chain: Chain, logits: jax.Array, contexts: Context, states: Any) -> jax.Array:
    """Return the rows after the links that come before any truncation, [B, V].

    Neighbouring links that are off for every row are passed by together: inside `vmap`
    a `cond` would run both ways, so the gate is here.
    """
    rows, pairs = logits, list(zip(chain.head, states, strict=False))
    for may_rest, run in itertools.groupby(pairs, lambda pair: _may_rest(pair[0])):
        links, of_run = zip(*run, strict=True)
        run_edits = _edits_unless_off if may_rest else _edits
        rows = run_edits(links, rows, contexts, of_run)
    return rows


def are_off(links: Sequence[Link], rows: int) -> jax.Array:
    """Say of each row whether all links are off, bool [B]."""
    off = jnp.ones((rows,), bool)
    for link in links:
        off &= jnp.asarray(link.is_off())
    return off


def _may_rest(link: Link) -> bool:
    return type(link).is_off is not Link.is_off


@jax.custom_jvp
def _edits_unless_off(links: Sequence[Link], rows, contexts, states) -> jax.Array:
    return jax.lax.cond(
        jnp.all(are_off(links, rows.shape[0])),
        lambda *given: given[1],
        _edits,
        *(links, rows, contexts, states),
    )


@_edits_unless_off.defjvp
def _edits_slope(primals, tangents):
    """A neutral parameter changes nothing, but it has a slope."""
    return jax.jvp(_edits, primals, tangents)


def scale_rows(chain: Chain, rows: jax.Array, contexts: Context, states: Any):
    """Return rows after the scales of the tail alone: what remains if nothing is cut."""
    start = len(chain.head)
    pairs = [
        (link, state)
        for link, state in zip(chain.tail, states[start:], strict=True)
        if isinstance(link, Scale)
    ]
    if not pairs:
        return rows
    scales, of_scales = zip(*pairs, strict=True)
    return _edits_unless_off(scales, rows, contexts, of_scales)


def run_tail(links: Sequence[Link], rows: Candidates, states: Any):
    """Return the candidates of a batch after truncations and scales, and the views.

    A view is the batch as a link saw it, for each link that observes; None for others.
    """
    views: list[Candidates | None] = []
    for link, state in zip(links, states, strict=True):
        assert isinstance(link, (Scale, Truncation))
        rows = replace(rows, state=state, measured=_measured(link, rows))
        step = rescale
        if isinstance(link, Truncation):
            rows, step = (weigh(rows) if link.uses_mass else rows), narrow
        views.append(rows if link.observes else None)
        rows = over_rows(lambda c, r, f=step: f(c.links[0], r), Chain((link,)), rows)
    return replace(rows, state=(), measured=()), views


def observe(chain: Chain, views: Sequence[Candidates | None], tokens: jax.Array):
    """Return what each link of a chain observes of the tokens [B] that were drawn."""

    def one_row(single, row, token):
        return single.links[0].observe(row, token)

    pairs = zip(chain.links, views, strict=True)
    return tuple(
        () if view is None else over_rows(one_row, Chain((link,)), view, tokens)
        for link, view in pairs
    )


def _measured(link: Scale | Truncation, rows: Candidates):
    """Return what a link measures, on whole rows only where a tail is left."""
    if not link.measures:
        return ()

    def of(values):
        return over_rows(lambda c, v: c.links[0].measure(v), Chain((link,)), values)

    inside = of(rows.values)
    if rows.values.shape == rows.whole.shape:
        return inside
    settled = rows.closed | rows.broken

    def with_tails():
        return jax.tree.map(
            lambda i, w: jnp.where(settled, i, w), inside, of(rows.whole)
        )

    return jax.lax.cond(jnp.all(settled), lambda: inside, with_tails)


def _edits(links: Sequence[Link], rows, contexts, states) -> jax.Array:
    if not links:
        return rows

    def one_row(chain, row, context, states):
        for link, state in zip(chain.links, states, strict=True):
            if isinstance(link, Scale):
                whole = replace(in_place(row, context), state=state)
                measured = link.measure(row) if link.measures else ()
                row = rescale(link, replace(whole, measured=measured)).values
            else:
                row = link(row, context, state)
        return row

    return over_rows(one_row, Chain(tuple(links)), rows, contexts, tuple(states))
