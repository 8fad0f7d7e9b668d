"""Arithmetic that must come out the same wherever it is done.

Every function here is written for one row. `prefix_sum` gives element i a value that
depends on elements up to i only, so that a window of candidates and the full sorted row
agree bit for bit on where a nucleus ends.
"""

import jax
import jax.numpy as jnp

NEG_INF = float("-inf")
UNROLLED_MAX = 4096  # entries; see `prefix_sum`


def log_sum_exp(values: jax.Array) -> jax.Array:
    """Return log(sum(exp(values))) over the last axis; -inf if every entry is -inf."""
    top = jnp.max(values, axis=-1)
    shift = jnp.where(jnp.isfinite(top), top, 0.0)
    total = jnp.sum(jnp.exp(values - shift[..., None]), axis=-1)
    return shift + jnp.log(total)


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
        # A loop, or XLA on CPU fuses every step into the last one and keeps all their
        # results for it: 16 arrays [B, V] for V = 49152 (jaxlib 0.10.2, 2026-11).
        return jax.lax.fori_loop(0, steps, step, values)
    for index in range(steps):
        values = step(index, values)
    return values


def is_valid(rows: jax.Array) -> jax.Array:
    """Say whether logits can be sampled: no NaN, no +inf, at least one token allowed.

    Every entry is compared: a maximum would do by the definition of NaN, but XLA's on
    CPU passes over NaN (jaxlib 0.10.2).
    """
    return jnp.all(rows < jnp.inf, axis=-1) & (jnp.max(rows, axis=-1) > NEG_INF)
