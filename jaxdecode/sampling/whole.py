"""Drawing from whole rows, without an order: Gumbel-max over the vocabulary."""

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform
from jaxdecode.native import bound_maxima
from jaxdecode.sampling.noise import gumbel_at, gumbel_bound_at, is_addressable
from jaxdecode.sampling.order import arg_max
from jaxdecode.sampling.stats import CHUNK, RowStats, chunked, logprobs_of


def draw_whole(
    rows: RowStats, scaled: jax.Array, unscaled: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw from scaled rows [B, V].

    Args:
      rows: what is known of the rows before they were scaled.
      scaled: float32 [B, V].
      unscaled: bool [B], whether `scaled` is the row as it was.
      keys: step keys [B], consumed.

    Returns:
      Tokens int32 [B], and their log-probabilities float32 [B].
    """
    token, value = gumbel_max(scaled, keys, rows.maxima, platform=rows.platform)
    if rows.log_z is None:
        return token, logprobs_of(value, scaled)
    known = jnp.where(unscaled, rows.logprob_of(value), jnp.nan)
    return token, _logprob_unless_known(value, scaled, known)


def gumbel_max(
    rows: jax.Array, keys: jax.Array, maxima: jax.Array, *, platform: Platform
) -> tuple[jax.Array, jax.Array]:
    """Return the tokens [B] that `jax.random.categorical` draws, and their values.

    Args:
      rows: float32 [B, V].
      keys: step keys [B], consumed.
      maxima: `chunk_maxima` of the rows, or of similar rows: the search begins at the
        largest.
      platform: what the program is compiled for. Static.
    """

    def one_row(row, key, maxima):
        return _gumbel_max(row, key, maxima, platform)

    return jax.vmap(one_row)(rows, keys, maxima)


def _gumbel_max(row, key, maxima, platform: Platform):
    vocab_size = row.shape[0]
    serial = platform.gates and vocab_size >= 8 * CHUNK
    if not serial or not is_addressable(key):
        ids = jnp.arange(vocab_size, dtype=jnp.int32)
        token = arg_max(row + gumbel_at(key, ids, vocab_size))
        return token, row[token]
    fixed = jax.lax.stop_gradient(row)
    token = _by_bounds(fixed, key, jnp.argmax(maxima), platform)
    return token, row[token]


def _by_bounds(row, key, near, platform: Platform) -> jax.Array:
    """Return the token with the best score, by bounds of the scores of each chunk.

    Noise takes two logarithms an entry, a bound of it none, and where the chunk `near`
    has a score that no other can reach, not even a hash. Chunks are searched in the
    order of their bounds, until none can hold a better score: about two of them.
    """
    vocab_size = row.shape[0]
    table = chunked(row)
    ids = jnp.arange(table.size, dtype=jnp.int32).reshape(table.shape)

    def search(chunk):
        scores = table[chunk] + gumbel_at(key, ids[chunk], vocab_size)
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
    if platform.kernels:
        bounds = bound_maxima(row, jax.random.key_data(key), best, CHUNK)
    else:
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
