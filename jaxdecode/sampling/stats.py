"""Statistics of whole rows: chunk maxima, validity, normalisers.

Everything the draw needs of a whole row comes from here, in forms that XLA turns into
vectorised loops on CPU: float32 maxima and sums over short chunks. Integer and boolean
reductions over a vocabulary, and reductions of one long row, are serial there.
"""

import jax
import jax.numpy as jnp

from jaxdecode.core.numerics import finite_or_zero, logprob_of
from jaxdecode.core.platform import Platform
from jaxdecode.core.pytree import pytree, static
from jaxdecode.native import survey

CHUNK = 128
LARGE = 8 * CHUNK  # entries from which on kernels are worth their call


@pytree
class RowStats:
    """Rows and what is known of them, leaves [B, ...].

    Attributes:
      rows: float32 [B, V].
      maxima: float32 [B, C], the largest entry of each chunk.
      valid: bool [B], whether the row can be sampled.
      log_z: float32 [B], log of the sum of exp(value - best), NaN where it is not known;
        None if it is known of no row.
      platform: what the program is compiled for. Static.
    """

    rows: jax.Array
    maxima: jax.Array
    valid: jax.Array
    log_z: jax.Array | None
    platform: Platform = static()

    def logprob_of(self, values: jax.Array) -> jax.Array:
        """Return the log-probabilities of entries with `values` [B]; needs `log_z`."""
        assert self.log_z is not None
        return logprob_of(values, jnp.max(self.maxima, axis=1), self.log_z)


def row_stats(
    rows: jax.Array, *, platform: Platform, with_log_z: bool = False
) -> RowStats:
    """Return the statistics of rows [B, V], read once; `with_log_z` adds normalisers.

    A kernel always gives normalisers.
    """
    if has_kernels(rows.shape[-1], platform):
        maxima, log_z = _survey(rows)
        return RowStats(rows, maxima, jnp.isfinite(log_z), log_z, platform)
    maxima = chunk_maxima(rows)
    log_z = log_total(rows, maxima) if with_log_z else None
    return RowStats(rows, maxima, is_valid(rows, maxima, log_z), log_z, platform)


def has_kernels(vocab_size: int, platform: Platform) -> bool:
    """Whether rows of this size are read by the kernels."""
    return platform.kernels and vocab_size >= LARGE


def chunked(rows: jax.Array, size: int = CHUNK) -> jax.Array:
    """Cut the last axis [V] into chunks [C, size], filled up with -inf."""
    vocab_size = rows.shape[-1]
    chunks = -(-vocab_size // size)
    if chunks * size > vocab_size:
        beyond = [(0, 0)] * (rows.ndim - 1) + [(0, chunks * size - vocab_size)]
        rows = jnp.pad(rows, beyond, constant_values=-jnp.inf)
    return rows.reshape(*rows.shape[:-1], chunks, size)


def chunk_maxima(rows: jax.Array) -> jax.Array:
    """Return the largest entry of each chunk, [..., V] to [..., C]; without a slope."""
    maxima = jnp.max(chunked(jax.lax.stop_gradient(rows)), axis=-1)
    # A maximum of maxima would else become a maximum of the rows, read once more.
    return jax.lax.optimization_barrier(maxima)


def is_valid(
    rows: jax.Array, maxima: jax.Array, log_z: jax.Array | None = None
) -> jax.Array:
    """Whether each row [B, V] can be sampled, bool [B], from its chunk maxima.

    A row is valid if it has no NaN, no +inf, and at least one token allowed. That is:
    if its normaliser is finite, which costs nothing where it is known, and is not needed
    where the entries have a finite sum. (A maximum passes over NaN on CPU, jaxlib 0.10.2,
    and comparing every entry costs as much as the normaliser.)
    """
    if log_z is not None:
        return jnp.isfinite(log_z)
    rows = jax.lax.stop_gradient(rows)
    finite = jnp.isfinite(jnp.sum(rows, axis=-1))
    return jax.lax.cond(
        jnp.all(finite),
        lambda *_: finite,
        lambda rows, maxima: jnp.isfinite(log_total(rows, maxima)),
        *(rows, maxima),
    )


def logprobs_of(value: jax.Array, rows: jax.Array) -> jax.Array:
    """Return the log-probabilities [B] of entries with `value` [B] in rows [B, V]."""
    maxima = chunk_maxima(rows)
    return logprob_of(value, jnp.max(maxima, axis=1), log_total(rows, maxima))


def log_total(rows: jax.Array, maxima: jax.Array) -> jax.Array:
    """Return log of the sum of exp(value - best) over each row, [B, V] to [B].

    Chunks are weighed against their own maxima first: one kernel does both.
    """
    best = finite_or_zero(jnp.max(maxima, axis=-1, keepdims=True))
    shift = jnp.where(jnp.isfinite(maxima), maxima, best)
    sums = jnp.sum(jnp.exp(chunked(rows) - shift[..., None]), axis=-1)
    return jnp.log(jnp.sum(sums * jnp.exp(shift - best), axis=-1))


@jax.custom_jvp
def _survey(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    return survey(rows, CHUNK)


@_survey.defjvp
def _survey_slope(primals, tangents):
    (rows,) = primals
    maxima, log_z = _survey(rows)
    slope = jax.jvp(lambda rows: log_total(rows, maxima), primals, tangents)[1]
    return (maxima, log_z), (jnp.zeros_like(maxima), slope)
