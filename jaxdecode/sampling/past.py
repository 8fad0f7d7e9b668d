"""Edits that change few tokens: those of a row's own past.

A penalty on repeated tokens changes as many entries of a row as there are tokens before
it, and leaves the others as they are. So its values are taken for these tokens alone, and
a kernel puts them where they belong while it looks at the row: the row is read once and,
where nothing else needs it, changed where it lies. The results are those of `edit`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core import varying
from jaxdecode.core.platform import Platform
from jaxdecode.core.pytree import pytree
from jaxdecode.native import put_and_survey
from jaxdecode.sampling.lift import are_off
from jaxdecode.sampling.processing import run_edits
from jaxdecode.sampling.stats import (
    CHUNK,
    RowStats,
    chunk_maxima,
    has_kernels,
    log_total,
)
from jaxdecode.transforms import Chain, Context, Edit, Link

FEW = 32  # entries per token of the past, from which on they are few


@pytree
class Past:
    """What rows held before they were changed.

    Attributes:
      ids: int32 [B, N], the tokens that may have been changed; V where there is none.
      logits: float32 [B, N], what they had; 0 where there is none.
      rows: float32 [B, V], the rows as they are now.
    """

    ids: jax.Array
    logits: jax.Array
    rows: jax.Array

    def take(self, tokens: jax.Array) -> jax.Array:
        """Return what tokens [B] had, float32 [B]."""
        is_here = self.ids == tokens[:, None]
        old = jnp.max(jnp.where(is_here, self.logits, -jnp.inf), axis=1)
        new = jnp.take_along_axis(self.rows, tokens[:, None], axis=1)[:, 0]
        return jnp.where(jnp.any(is_here, axis=1), old, new)


def changes_past(
    chain: Chain, vocab_size: int, contexts: Context, platform: Platform
) -> bool:
    """Whether the links before the first truncation change few tokens, by kernels."""
    few = contexts.tokens.shape[-1] * FEW <= vocab_size
    only_past = all(isinstance(x, Edit) and x.only_past for x in chain.head)
    kernels = platform.gates and has_kernels(vocab_size, platform)
    return kernels and few and only_past and bool(chain.head)


def edit_past(
    chain: Chain,
    logits: jax.Array,
    contexts: Context,
    states: Any,
    *,
    platform: Platform,
) -> tuple[RowStats, RowStats, Past]:
    """Return what is known of the logits, of the rows after the edits, and the past.

    Of the logits the entries are not kept: `raw.rows` is not to be read.
    """
    links = chain.head
    given = links, logits, contexts, tuple(states[: len(links)])
    rows, best, raw_log_z, maxima, log_z, (ids, old) = _edit_past(*given)
    raw_valid, valid = jnp.isfinite(raw_log_z), jnp.isfinite(log_z)
    raw = RowStats(logits, best[:, None], raw_valid, raw_log_z, platform)
    new = RowStats(rows, maxima, valid, log_z, platform)
    return raw, new, Past(ids, old, rows)


@jax.custom_jvp
def _edit_past(links: Sequence[Link], logits, contexts, states):
    nothing = jnp.all(are_off(links, logits.shape[0]))
    ids, old, new = varying.cond(
        nothing, _untouched, _edit_tokens, links, logits, contexts, states
    )
    return *put_and_survey(logits, ids, new, CHUNK), (ids, old)


def _edit_plainly(links: Sequence[Link], logits, contexts, states):
    """Do the same in plain JAX, even where all links are off."""
    ids, old, new = _edit_tokens(links, logits, contexts, states)
    lines = jnp.arange(logits.shape[0])[:, None]
    rows = logits.at[lines, ids].set(new, mode="drop")
    before, after = chunk_maxima(logits), chunk_maxima(rows)
    raw_log_z, log_z = log_total(logits, before), log_total(rows, after)
    return rows, jnp.max(before, axis=1), raw_log_z, after, log_z, (ids, old)


@_edit_past.defjvp
def _edit_past_slope(primals, tangents):
    """A neutral parameter changes nothing, but it has a slope."""
    return jax.jvp(_edit_plainly, primals, tangents)


def _edit_tokens(links: Sequence[Link], logits, contexts, states):
    """Return the tokens of the past [B, N], V where there is none, and their values."""
    vocab_size = logits.shape[1]
    column = jnp.arange(contexts.tokens.shape[1], dtype=jnp.int32)
    is_past = column[None, :] < contexts.length[:, None]
    at = jnp.where(is_past, contexts.tokens, 0)

    def few(leaf):
        return jnp.take_along_axis(leaf, at, axis=1)

    old = few(logits)
    new = run_edits(links, old, contexts, jax.tree.map(few, states))
    return jnp.where(is_past, at, vocab_size), jnp.where(is_past, old, 0.0), new


def _untouched(links: Sequence[Link], logits, contexts, states):
    shape = contexts.tokens.shape
    zeros = jnp.zeros(shape, jnp.float32)
    return jnp.full(shape, logits.shape[1], jnp.int32), zeros, zeros
