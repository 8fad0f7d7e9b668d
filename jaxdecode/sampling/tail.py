"""The tail of a chain: truncations and scales, on the candidates of a batch.

The same code serves a window of candidates and the sorted row. Reading a whole row is
the only part that costs more for a larger vocabulary: it is done only for links that
need a normaliser or a measurement, and only while a row still has a tail.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.numerics import finite_or_zero, log_sum_exp
from jaxdecode.core.pytree import replace
from jaxdecode.sampling.lift import over_rows
from jaxdecode.transforms import Candidates, Chain, Link, Scale, Truncation
from jaxdecode.transforms.base import observes

Views = list[
    Candidates | None
]  # the batch as a link saw it; None if it observes nothing


def run_tail(
    links: Sequence[Link], rows: Candidates, states: Any, *, gates: bool = True
) -> tuple[Candidates, Views]:
    """Return the candidates of a batch after truncations and scales, and their views.

    `gates` says whether whole rows are read only where a row still has a tail. Static.
    """
    views: Views = []
    for link, state in zip(links, states, strict=True):
        rows = replace(rows, state=state, measured=_measured(link, rows, gates))
        if isinstance(link, Truncation) and link.uses_mass:
            rows = weigh(rows, gates)
        views.append(rows if observes(link) else None)
        if isinstance(link, Truncation):
            holes = rows.holes or not link.keeps_prefix
            rows = replace(rows, holes=holes, **over_rows(narrow, link, rows))
        else:
            step = rescale if len(views) < len(links) else rescale_last
            rows = replace(rows, **over_rows(step, link, rows))
    return replace(rows, state=None, measured=None), views


def observe(chain: Chain, views: Views, tokens: jax.Array) -> Any:
    """Return what each link observes of the tokens [B] that were drawn.

    Returns:
      One value per link, None for a link that observes nothing; None if none does.
    """
    if not chain.observes:
        return None
    return tuple(
        None
        if view is None
        else over_rows(lambda link, row, t: link.observe(row, t), link, view, tokens)
        for link, view in zip(chain.links, views, strict=True)
    )


def narrow(link: Truncation, row: Candidates) -> dict[str, Any]:
    """Return what changes in one row: `link` drops what it does not keep.

    The row is closed if its tail is gone.
    """
    off = link.is_idle(row)
    keep = link.keep(row)
    if link.keeps_argmax:
        keep |= row.rank < link.min_keep
    kept = jnp.where(row.alive & keep, link.reweigh(row), -jnp.inf)
    changed = {"values": jnp.where(off, row.values, kept)}
    if row.values.shape == row.whole.shape:  # a whole row is closed from the start
        return changed
    inside = link.complete(row)
    if link.keeps_argmax:
        inside &= row.size >= link.min_keep
    complete = row.closed | inside
    breaks = ~(off | complete | row.broken)
    return changed | {
        "closed": jnp.where(off, row.closed, complete),
        "broken": row.broken | breaks,
        "least": jnp.where(breaks, link.least_size(row), row.least),
    }


def rescale(link: Scale, row: Candidates) -> dict[str, Any]:
    """Return what changes in one row: its values, and by the same rule its tail."""
    return rescale_last(link, row) | {"whole": link.scale(row.whole, row)}


def rescale_last(link: Scale, row: Candidates) -> dict[str, Any]:
    """Do the same where no link reads the tail afterwards."""
    return {"values": link.scale(row.values, row), "whole_log_z": None}


def weigh(rows: Candidates, gates: bool) -> Candidates:
    """Set `log_z` of a batch of rows; whole rows are read only where a tail is left."""
    best = finite_or_zero(jax.vmap(lambda row: row.best)(rows))
    inside = log_sum_exp(rows.values, best)
    known = rows.closed | rows.broken
    if rows.whole_log_z is not None:
        use = jnp.isfinite(rows.whole_log_z) & ~known
        inside = jnp.where(use, rows.whole_log_z, inside)
        known |= use

    def of(whole):
        return log_sum_exp(whole, best)

    log_z = _with_tails(rows, known, inside, of, gates)
    return replace(rows, log_z=log_z)


def _measured(link: Link, rows: Candidates, gates: bool) -> Any:
    """Return what a link measures of the tokens still allowed, leaves [B, ...]."""

    def of(values):
        return over_rows(lambda link, row: link.measure(row), link, values)

    return _with_tails(rows, rows.closed | rows.broken, of(rows.values), of, gates)


def _with_tails(
    rows: Candidates, known: jax.Array, inside: Any, of: Callable, gates: bool
) -> Any:
    """Return `inside` for rows that are `known`, and `of(rows.whole)` for the others."""
    if rows.values.shape == rows.whole.shape or not jax.tree.leaves(inside):
        return inside

    def pick(whole, inside):
        return jnp.where(known, inside, whole)

    if not gates:
        return jax.tree.map(pick, of(rows.whole), inside)
    return jax.lax.cond(
        jnp.all(known),
        lambda: inside,
        lambda: jax.tree.map(pick, of(rows.whole), inside),
    )
