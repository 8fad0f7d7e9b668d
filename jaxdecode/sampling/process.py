"""Running a chain over a batch: the one place where links are lifted over rows.

`process` is the plain meaning of a chain: every truncation sees the whole sorted row,
and the row is put back in vocabulary order. `edit` and `run_tail` are its two halves
for the draw, which runs the tail on a window.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxdecode.core.pytree import replace
from jaxdecode.sampling.select import in_place, select, unsort
from jaxdecode.transforms import Candidates, Chain, Context, Edit, Link, Scale
from jaxdecode.transforms.candidates import narrow, rescale, weigh


def over_rows(function: Callable, chain: Chain, *batched: Any) -> Any:
    """Lift `function(chain, *one_row)` over a batch."""
    axes = (chain.axes(), *(0 for _ in batched))
    return jax.vmap(function, in_axes=axes)(chain, *batched)


def process(chain: Chain, logits: jax.Array, contexts: Context, states: Any):
    """Return the processed rows, float32 [B, V]: what the token is drawn from.

    Args:
      chain: the links, parameters scalar or [B].
      logits: float32 [B, V].
      contexts: `Context` with leaves [B, ...].
      states: the links' states, leaves [B, ...].
    """
    rows = edit(chain, logits, contexts, states)
    links, rest = chain.tail, states[len(chain.head) :]
    vocab_size = logits.shape[1]
    while links:
        stop = next(
            (i for i, link in enumerate(links) if isinstance(link, Edit)), len(links)
        )
        if stop:
            ordered = jax.vmap(lambda row, c: select(row, c, vocab_size))(
                rows, contexts
            )
            rows = jax.vmap(unsort)(run_tail(links[:stop], ordered, rest[:stop]))
        else:
            stop = 1
            rows = _edits(links[:1], rows, contexts, rest[:1])
        links, rest = links[stop:], rest[stop:]
    return rows


def edit(chain: Chain, logits: jax.Array, contexts: Context, states: Any) -> jax.Array:
    """Return the rows after the links that come before any truncation, [B, V]."""
    head = chain.head
    return _edits(head, logits, contexts, states[: len(head)])


def scale_rows(chain: Chain, rows: jax.Array, contexts: Context, states: Any):
    """Return rows after the scales of the tail alone: what remains if nothing is cut."""
    start = len(chain.head)
    pairs = [
        (link, state)
        for link, state in zip(chain.tail, states[start:], strict=True)
        if isinstance(link, Scale)
    ]
    return _edits([p[0] for p in pairs], rows, contexts, [p[1] for p in pairs])


def run_tail(links: Sequence[Link], rows: Candidates, states: Any) -> Candidates:
    """Return the candidates of a batch after truncations and scales."""
    for link, state in zip(links, states, strict=True):
        rows = replace(rows, state=state)
        if isinstance(link, Scale):
            rows = over_rows(lambda c, r: rescale(c.links[0], r), Chain((link,)), rows)
            continue
        if link.uses_mass:  # type: ignore[attr-defined]
            rows = weigh(rows)
        rows = over_rows(lambda c, r: narrow(c.links[0], r), Chain((link,)), rows)
    return replace(rows, state=())


def _edits(links: Sequence[Link], rows, contexts, states) -> jax.Array:
    if not links:
        return rows

    def one_row(chain, row, context, states):
        for link, state in zip(chain.links, states, strict=True):
            if isinstance(link, Scale):
                row = rescale(link, replace(in_place(row, context), state=state)).values
            else:
                row = link(row, context, state)
        return row

    return over_rows(one_row, Chain(tuple(links)), rows, contexts, tuple(states))
