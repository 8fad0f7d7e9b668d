"""Drawing from whole rows, without an order: Gumbel-max over the vocabulary."""

import jax
import jax.numpy as jnp

from jaxdecode.native import bound_maxima, is_available
from jaxdecode.sampling.noise import gumbel_at, gumbel_bound_at, is_addressable
from jaxdecode.sampling.order import arg_max
from jaxdecode.sampling.sweep import CHUNK, Sweep, chunk_maxima, chunked, log_total
from jaxdecode.transforms.candidates import finite_or_zero


def draw_whole(rows: Sweep, scaled: jax.Array, unscaled: jax.Array, keys: jax.Array):
    """Draw from scaled rows [B, V].

    Args:
      rows: what is known of the rows before they were scaled.
      scaled: float32 [B, V].
      unscaled: bool [B], whether `scaled` is the row as it was.
      keys: step keys [B], consumed.

    Returns:
      Tokens int32 [B], and their log-probabilities float32 [B].
    """
    token, value = gumbel_max(scaled, keys, rows.maxima)
    if isinstance(rows.log_z, tuple):
        return token, log_share(value, scaled)
    known = jnp.where(unscaled, rows.share_of(value), jnp.nan)
    return token, _share_unless_known(value, scaled, known)


def gumbel_max(rows: jax.Array, keys: jax.Array, maxima: jax.Array):
    """Return the tokens [B] that `jax.random.categorical` draws, and their values.

    Args:
      rows: float32 [B, V].
      keys: step keys [B], consumed.
      maxima: `chunk_maxima` of the rows, or of rows alike: they say where to look first.
    """
    return jax.vmap(_gumbel_max)(rows, keys, maxima)


def log_share(value: jax.Array, rows: jax.Array) -> jax.Array:
    """Return the log-probabilities [B] of entries with `value` [B] in rows [B, K]."""
    maxima = chunk_maxima(rows)
    best = finite_or_zero(jnp.max(maxima, axis=1))
    return (value - best) - log_total(rows, maxima)  # exact far from 0, too


def _gumbel_max(row: jax.Array, key: jax.Array, maxima: jax.Array):
    vocab_size = row.shape[0]
    if vocab_size < 8 * CHUNK or not is_addressable(key):
        ids = jnp.arange(vocab_size, dtype=jnp.int32)
        token = arg_max(row + gumbel_at(key, ids, vocab_size))
        return token, row[token]
    token = _by_bounds(jax.lax.stop_gradient(row), key, jnp.argmax(maxima))
    return token, row[token]


def _by_bounds(row: jax.Array, key: jax.Array, near: jax.Array) -> jax.Array:
    """Return the token with the best score, by bounds of the scores of each chunk.

    Noise takes two logarithms an entry, a bound of it none, and where the chunk `near`
    has a score that no other can reach, not even a hash. Chunks are looked at exactly in
    the order of their bounds, until none can hold a better score: two or so of them.
    """
    vocab_size = row.shape[0]
    table = chunked(row)
    ids = jnp.arange(table.size, dtype=jnp.int32).reshape(table.shape)

    def look(chunk):
        scores = table[chunk] + gumbel_at(key, ids[chunk], vocab_size)
        return jnp.max(scores), ids[chunk, jnp.argmax(scores)]

    def is_open(carry):
        bounds, best, _ = carry
        most = jnp.max(bounds)
        return (most >= best) & (most > -jnp.inf)

    def look_on(carry):
        bounds, best, token = carry
        chunk = jnp.argmax(bounds)
        most, first = look(chunk)
        better = (most > best) | ((most == best) & (first < token))
        best, token = jnp.where(better, most, best), jnp.where(better, first, token)
        return bounds.at[chunk].set(-jnp.inf), best, token

    best, token = look(near)
    if is_available():
        bounds = bound_maxima(row, jax.random.key_data(key), best, CHUNK)
    else:
        bounds = jnp.max(table + gumbel_bound_at(key, ids), axis=1)
        # Behind a barrier, or every look would make the bounds of the whole row again.
        bounds = jax.lax.optimization_barrier(bounds)
    start = bounds.at[near].set(-jnp.inf), best, token
    return jax.lax.while_loop(is_open, look_on, start)[2]


@jax.custom_jvp
def _share_unless_known(value, rows, known):
    wanted = jnp.isnan(known)
    return jax.lax.cond(
        jnp.any(wanted),
        lambda value, rows: jnp.where(wanted, log_share(value, rows), known),
        lambda value, rows: known,
        *(value, rows),
    )


@_share_unless_known.defjvp
def _share_slope(primals, tangents):
    """A scale of neutral parameters changes nothing, but it has a slope."""
    return jax.jvp(log_share, primals[:2], tangents[:2])
