"""Drawing from windows of candidates, the smallest that is complete for each row.

The first window is tried for the whole batch at once. Rows that it cannot hold are few
in a batch of text, so they are taken together in small groups, and a larger window, or
the sort of the whole vocabulary, costs what these rows cost.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdecode.core.pytree import replace
from jaxdecode.sampling.noise import gumbel_at
from jaxdecode.sampling.process import observe, run_tail
from jaxdecode.sampling.select import select
from jaxdecode.sampling.sweep import Sweep
from jaxdecode.sampling.whole import log_share
from jaxdecode.transforms import Candidates, Chain, Truncation


def draw_windowed(
    chain: Chain, rows: Sweep, contexts, states, todo, windows: Sequence[int], found
):
    """Draw the rows of `todo`, bool [B]; return `found` with theirs put in.

    Args:
      chain: the links.
      rows: the rows behind the edits.
      contexts: the rows' past, with their step keys.
      states: the links' states.
      todo: bool [B], which rows to draw.
      windows: sizes to try before the whole vocabulary, ascending. Static.
      found: (token, logprob[, seen]) of rows drawn already, leaves [B, ...].
    """
    if not any(isinstance(link, Truncation) for link in chain.tail):
        return found
    vocab_size = rows.rows.shape[1]
    batch = (chain, rows, contexts, states)
    for index, size in enumerate([w for w in windows if w < vocab_size] + [vocab_size]):
        attempt = _for_all if index == 0 else _in_groups
        todo, found = jax.lax.cond(
            jnp.any(todo),
            lambda todo, found, do=attempt, size=size: do(size, batch, todo, found),
            lambda todo, found: (todo, found),
            *(todo, found),
        )
    return found


def _for_all(size: int, batch, todo, found):
    """Draw every row from its window; keep the results of rows that it could hold."""
    chain, rows, contexts, states = batch

    def one_row(row, maxima, context):
        return select(row, context, size, maxima)

    kept = jax.vmap(one_row)(rows.rows, rows.maxima, contexts)
    kept = replace(kept, whole_log_z=rows.log_z)
    kept, views = run_tail(chain.tail, kept, states[len(chain.head) :])
    settled = todo & kept.closed & ~kept.broken
    new = _draw_candidates(kept, rows.rows.shape[1])
    if chain.observes:
        new = (*new, observe(chain, [None] * len(chain.head) + views, new[0]))
    return todo & ~settled, _merge(settled, new, found)


def _in_groups(size: int, batch, todo, found):
    """Draw the rows of `todo` group by group; groups without any cost nothing."""
    count = todo.shape[0]
    group = min(count, _group_max())
    if group == count:
        return _for_all(size, batch, todo, found)
    order = jnp.argsort(~todo, stable=True).astype(jnp.int32)  # those of `todo` first
    order = jnp.pad(order, (0, -count % group), constant_values=count)  # beyond: none

    def one_group(carry, index):
        def work(todo, found):
            some = _take(index, (batch, todo, found))
            new = _for_all(size, *some)
            return jax.tree.map(
                lambda old, n: old.at[index].set(n, mode="drop"), (todo, found), new
            )

        wanted = jnp.any(jnp.take(carry[0], index, mode="fill", fill_value=False))
        return jax.lax.cond(wanted, work, lambda *same: same, *carry), None

    return jax.lax.scan(one_group, (todo, found), order.reshape(-1, group))[0]


def _group_max() -> int:
    """How many rows share a larger window: few where a row costs more than a launch."""
    return 2 if jax.default_backend() == "cpu" else 16


def _take(index: jax.Array, of):
    """Take some rows of the batch; an index beyond it takes the last."""
    (chain, rows, contexts, states), todo, found = of
    index = jnp.minimum(index, todo.shape[0] - 1)
    rest, todo, found = jax.tree.map(
        lambda leaf: jnp.asarray(leaf)[index], ((rows, contexts, states), todo, found)
    )
    return (chain.take(index), *rest), todo, found


def _draw_candidates(kept: Candidates, vocab_size: int):
    """Draw from a batch of closed candidates; ties of the score go to the lower id."""

    def one_row(row: Candidates):
        score = row.values + gumbel_at(row.context.key, row.ids, vocab_size)
        is_best = score == jnp.max(score)
        token = jnp.min(jnp.where(is_best, row.ids, vocab_size))
        return token, jnp.max(jnp.where(row.ids == token, row.values, -jnp.inf))

    token, value = jax.vmap(one_row)(kept)
    return token, log_share(value, kept.values)


def _merge(mask: jax.Array, new, old):
    def pick(new, old):
        return jnp.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(pick, new, old)
