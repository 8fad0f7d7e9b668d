"""The one place where links, written for one row, are lifted over the rows of a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.rows import resolve_banks, row_axes
from jaxdecode.transforms import Chain, Context, Drawn, Link


def over_rows(
    function: Callable, links: Link | Chain | Sequence[Link], *batched: Any
) -> Any:
    """Lift `function(links, *one_row)` over a batch.

    Args:
      function: of one row; it sees plain parameters and tables.
      links: a link, a chain or several links; a parameter is a number for all rows, a
        vector with one per row, or a `core.rows.Bank`.
      *batched: values with leaves [B, ...]; at least one.
    """

    def one_row(links, *row):
        return function(resolve_banks(links), *row)

    axes = (row_axes(links), *(0 for _ in batched))
    return jax.vmap(one_row, in_axes=axes)(links, *batched)


def init_rows(chain: Chain, contexts: Context) -> Any:
    """Return the states of a chain's links for rows with `contexts`, leaves [B, ...]."""
    return over_rows(lambda chain, context: chain.init(context), chain, contexts)


def update_rows(chain: Chain, states: Any, drawn: Drawn) -> Any:
    """Return the states of a chain's links after one more token of each row."""

    def one_row(chain, states, drawn):
        return chain.update(states, drawn)

    return over_rows(one_row, chain, states, drawn)


def are_off(links: Sequence[Link], rows: int) -> jax.Array:
    """Return which rows have only links that are off, bool [B]."""
    return _all_rows(lambda link: link.is_off(), links, rows, initial=True)


def are_greedy(links: Sequence[Link], rows: int) -> jax.Array:
    """Return which rows have a link that keeps only the first maximum, bool [B]."""
    return ~_all_rows(
        lambda link: ~jnp.asarray(link.is_greedy()), links, rows, initial=True
    )


def _all_rows(question: Callable, links, rows: int, *, initial: bool) -> jax.Array:
    def one_row(links, place):
        answer = jnp.asarray(initial)
        for link in links:
            answer &= jnp.asarray(question(link))
        return answer | (place < 0)

    return over_rows(one_row, tuple(links), jnp.arange(rows, dtype=jnp.int32))
