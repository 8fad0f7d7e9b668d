"""Drawing from whole rows, without an order: Gumbel-max over the vocabulary."""

import functools

import jax
import jax.numpy as jnp

from jaxdecode.core import varying
from jaxdecode.core.platform import Platform
from jaxdecode.core.pytree import replace
from jaxdecode.native import noisy_candidates
from jaxdecode.sampling.lift import are_off
from jaxdecode.sampling.noise import gumbel, gumbel_at, gumbel_bound_at, is_addressable
from jaxdecode.sampling.order import arg_max
from jaxdecode.sampling.processing import scale_rows, scales_of
from jaxdecode.sampling.stats import (
    CHUNK,
    LARGE,
    chunked,
    has_kernels,
    logprobs_of,
    row_stats,
)
from jaxdecode.sampling.window import Batch

CANDIDATES = 8  # entries that are looked at together; one is usual


def draw_whole(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Draw from whole rows, scaled by the scales of the tail.

    Returns:
      Tokens int32 [B], and their log-probabilities float32 [B].
    """
    rows, keys = batch.rows, batch.contexts.key
    if has_kernels(rows.rows.shape[1], rows.platform):
        return _draw_or_scale(batch)
    given = batch.chain, rows.rows, batch.contexts, batch.states
    scaled, unscaled = scale_rows(*given)
    token, value = gumbel_max(scaled, keys, rows.maxima, platform=rows.platform)
    if rows.log_z is None:
        return token, logprobs_of(value, scaled)
    known = jnp.where(unscaled, rows.logprob_of(value), jnp.nan)
    return token, _logprob_unless_known(value, scaled, known)


@jax.custom_jvp
def _draw_or_scale(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Draw; rows that no scale changes are not moved, as by a branch for rows."""
    count = batch.rows.valid.shape[0]
    unscaled = are_off(scales_of(batch.chain), count)
    return jax.lax.cond(jnp.all(unscaled), _draw_as_they_are, _draw_scaled, batch)


@_draw_or_scale.defjvp
def _draw_or_scale_slope(primals, tangents):
    """A scale of neutral parameters changes nothing, but it has a slope."""
    return jax.jvp(_draw_scaled, primals, tangents)


def _draw_as_they_are(batch: Batch) -> tuple[jax.Array, jax.Array]:
    rows = batch.rows
    given = rows.rows, batch.contexts.key, rows.maxima
    token, value = gumbel_max(*given, platform=rows.platform)
    return token, rows.logprob_of(value)


def _draw_scaled(batch: Batch) -> tuple[jax.Array, jax.Array]:
    given = batch.chain, batch.rows.rows, batch.contexts, batch.states
    scaled, _ = scale_rows(*given, gates=False)
    rows = row_stats(scaled, platform=batch.rows.platform)
    return _draw_as_they_are(replace(batch, rows=rows))


# A program holds it twice, scaled and unscaled: as a `jit` it is traced once.
@functools.partial(jax.jit, static_argnames="platform")
def gumbel_max(
    rows: jax.Array, keys: jax.Array, maxima: jax.Array, *, platform: Platform
) -> tuple[jax.Array, jax.Array]:
    """Return the tokens [B] that `jax.random.categorical` draws, and their values.

    Args:
      rows: float32 [B, V].
      keys: step keys [B], consumed.
      maxima: `chunk_maxima` of the rows.
      platform: what the program is compiled for. Static.
    """

    def one_row(row, key, maxima):
        return _gumbel_max(row, key, maxima, platform)

    return jax.vmap(one_row)(rows, keys, maxima)


def _gumbel_max(row, key, maxima, platform: Platform):
    vocab_size = row.shape[0]
    serial = platform.gates and vocab_size >= LARGE
    if not serial or not is_addressable(key):
        ids = jnp.arange(vocab_size, dtype=jnp.int32)
        token = arg_max(row + gumbel_at(key, ids, vocab_size, platform=platform))
        return token, row[token]
    search = _by_candidates if has_kernels(vocab_size, platform) else _by_bounds
    token = search(jax.lax.stop_gradient(row), key, maxima, platform)
    return token, row[token]


def _by_candidates(row, key, maxima, platform: Platform) -> jax.Array:
    """Return the token with the best score among the few that can have it.

    A kernel finds them by bounds of the scores; their noise is taken here, to the bit.
    Nearly always they fit into one turn.
    """
    del platform
    vocab_size, words = row.shape[0], jax.random.key_data(key)

    def is_open(carry):
        return carry[0] < vocab_size

    def search_on(carry):
        start, best, token = carry
        ids, bits, start = noisy_candidates(
            row, maxima, words, start, best, chunk=CHUNK, k=CANDIDATES
        )
        inside = jnp.minimum(ids, vocab_size - 1)
        scores = row[inside] + gumbel(bits)
        scores = jnp.where(ids < vocab_size, scores, -jnp.inf)
        most = jnp.max(scores)
        first = jnp.min(jnp.where(scores == most, inside, vocab_size))
        better = most > best  # equal ones found before have lower ids
        return start, jnp.maximum(most, best), jnp.where(better, first, token)

    start = jnp.int32(0), jnp.float32(-jnp.inf), jnp.int32(0)
    start = varying.vary_like(start, row, words)
    return jax.lax.while_loop(is_open, search_on, start)[2]


def _by_bounds(row, key, maxima, platform: Platform) -> jax.Array:
    """Return the token with the best score, by bounds of the scores of each chunk.

    Noise takes two logarithms an entry, a bound of it none. Chunks are searched in the
    order of their bounds, until none can hold a better score: about two of them.
    """
    vocab_size, table = row.shape[0], chunked(row)
    near = jnp.argmax(maxima)
    ids = jnp.arange(table.size, dtype=jnp.int32).reshape(table.shape)

    def search(chunk):
        noise = gumbel_at(key, ids[chunk], vocab_size, platform=platform)
        scores = table[chunk] + noise
        return jnp.max(scores), ids[chunk, jnp.argmax(scores)]

    def is_open(carry):
        bounds, best, _ = carry
        most = jnp.max(bounds)
        return (most >= best) & (most > -jnp.inf)

    def search_next(carry):
        bounds, best, token = carry
        chunk = jnp.argmax(bounds)
        most, first = search(chunk)
        better = (most > best) | ((most == best) & (first < token))
        best, token = jnp.where(better, most, best), jnp.where(better, first, token)
        return bounds.at[chunk].set(-jnp.inf), best, token

    best, token = search(near)
    bounds = jnp.max(table + gumbel_bound_at(key, ids), axis=1)
    # Behind a barrier, or every search would compute all bounds again.
    bounds = jax.lax.optimization_barrier(bounds)
    start = bounds.at[near].set(-jnp.inf), best, token
    return jax.lax.while_loop(is_open, search_next, start)[2]


@jax.custom_jvp
def _logprob_unless_known(value, rows, known):
    wanted = jnp.isnan(known)
    return jax.lax.cond(
        jnp.any(wanted),
        lambda value, rows: jnp.where(wanted, logprobs_of(value, rows), known),
        lambda value, rows: known,
        *(value, rows),
    )


@_logprob_unless_known.defjvp
def _logprob_slope(primals, tangents):
    """A scale of neutral parameters changes nothing, but it has a slope."""
    return jax.jvp(logprobs_of, primals[:2], tangents[:2])
