"""Arithmetic that must come out the same wherever it is done.

`prefix_sum` gives element i a value that depends on elements up to i only, so that a
window of candidates and the full sorted row agree bit for bit on where a nucleus ends.
"""

import jax
import jax.numpy as jnp

NEG_INF = float("-inf")
UNROLLED_MAX = 32  # entries; see `prefix_sum`


def log_sum_exp(values: jax.Array, best: jax.Array | None = None) -> jax.Array:
    """Return log(sum(exp(values))) over the last axis; -inf if every entry is -inf.

    Args:
      values: float32 [..., K].
      best: float32 [...], finite: the result is then relative to it, the logarithm of
        the sum of exp(values - best). None: the result is absolute.
    """
    if best is not None:
        return jnp.log(jnp.sum(jnp.exp(values - best[..., None]), axis=-1))
    best = finite_or_zero(jnp.max(values, axis=-1))
    return best + log_sum_exp(values, best)


def logprob_of(value: jax.Array, best: jax.Array, log_z: jax.Array) -> jax.Array:
    """Return the log-probability of entries with `value`.

    Args:
      value: float32 [...].
      best: the largest value of the same row.
      log_z: the logarithm of the sum of exp(value - best) over the row.
    """
    # Taking the best away first is exact where it matters; far from 0, adding it to the
    # normaliser would cost the digits of both.
    return (value - finite_or_zero(best)) - log_z


def finite_or_zero(value: jax.Array) -> jax.Array:
    """Return what may be subtracted from a row: -inf - -inf would be NaN."""
    return jnp.where(jnp.isfinite(value), value, jnp.float32(0.0))


@jax.jit  # asked for twice by a nucleus, and traced once
def prefix_sum(values: jax.Array) -> jax.Array:
    """Return running sums of a vector, each independent of what follows it.

    Steps of doubling distance (Hillis and Steele, 1986): element i adds element i - d
    for d = 1, 2, 4, ... So the first K results are the same for any longer vector,
    which `jnp.cumsum` does not promise.
    """
    size = values.shape[0]
    zeros = jnp.zeros_like(values)

    def step(index, values):
        begin = size - (1 << index)
        wide = jnp.concatenate([zeros, values])
        return values + jax.lax.dynamic_slice_in_dim(wide, begin, size)

    steps = max(size - 1, 0).bit_length()
    if size > UNROLLED_MAX:
        # Unrolled, XLA on CPU makes a kernel of each step and keeps all their results:
        # 16 against 4 us for [2, 1024], and 16 arrays [B, V] (jaxlib 0.10.2, 2026-11).
        return jax.lax.fori_loop(0, steps, step, values)
    for index in range(steps):
        values = step(index, values)
    return values
