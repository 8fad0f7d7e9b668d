"""Gumbel noise addressed by token id: the noise `jax.random.categorical` would use.

`jax.random.categorical(key, row)` is the argmax of `row + gumbel(key, (V,))`. Threefry
is counter-based: the 32 bits of entry i are a hash of (key, i), so the noise of a few
candidates costs a few hashes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdecode.core.platform import Platform
from jaxdecode.core.threefry import threefry
from jaxdecode.native import noise_bits

_TINY = np.float32(np.finfo(np.float32).tiny)
_BOUND_SLACK = 1e-4  # above what float32 loses on the way to noise and to its bound
_ONE_BITS = np.uint32(np.float32(1.0).view(np.uint32))


def gumbel_at(
    key: jax.Array,
    ids: jax.Array,
    vocab_size: int,
    *,
    platform: Platform | None = None,
) -> jax.Array:
    """Return the Gumbel noise of token ids under one step key.

    Equal bit for bit to `jax.random.gumbel(key, (vocab_size,))[ids]`.

    Args:
      key: one typed key.
      ids: int32 [K], each below `vocab_size`.
      vocab_size: V.
      platform: what the program is compiled for; None does without kernels. Static.

    Returns:
      float32 [K].
    """
    if not is_addressable(key):
        return _whole_gumbel(key, vocab_size)[ids]
    words = jax.random.key_data(key)
    if platform is not None and platform.kernels:
        return gumbel(noise_bits(words, ids))
    return gumbel(_random_bits(words, ids.astype(jnp.uint32)))


def gumbel_bound_at(key: jax.Array, ids: jax.Array) -> jax.Array:
    """Return numbers that the noise of token ids does not exceed, for few operations.

    Args:
      key: one typed key, for which `is_addressable` holds.
      ids: int32, any shape.

    Returns:
      float32; above noise of at least 2 by less than 0.14.
    """
    return gumbel_bound(_random_bits(jax.random.key_data(key), ids.astype(jnp.uint32)))


def _whole_gumbel(key: jax.Array, vocab_size: int) -> jax.Array:
    """Return `jax.random.gumbel(key, (vocab_size,))`, under `vmap` too.

    The bits of an "rbg" key depend on its neighbours when `vmap` lifts it, so the rows
    of a batch take theirs one after another.
    """

    @jax.custom_batching.sequential_vmap
    def one_row(key):
        return jax.random.gumbel(key, (vocab_size,), jnp.float32)

    return one_row(key)


def is_addressable(key: jax.Array) -> bool:
    """Whether noise is a hash of (key, index): threefry in its partitionable form."""
    return (
        str(jax.random.key_impl(key)) == "threefry2x32"
        and getattr(jax.config, "jax_threefry_partitionable", False)
        and not getattr(jax.config, "jax_high_dynamic_range_gumbel", False)
    )


def _random_bits(key: jax.Array, counts: jax.Array) -> jax.Array:
    """Return `jax.random.bits(key, (n,))` at the indices `counts`, all below 2**32."""
    high, low = threefry(key[0], key[1], jnp.zeros_like(counts), counts)
    return high ^ low


def _uniform(bits: jax.Array) -> jax.Array:
    """Turn bits into a float in [0, 1), as JAX does."""
    floats = lax.bitcast_convert_type((bits >> np.uint32(9)) | _ONE_BITS, jnp.float32)
    return floats - np.float32(1.0)


def gumbel(bits: jax.Array) -> jax.Array:
    """Turn uint32 into noise as JAX does: a float in [tiny, 1), then -log(-log(u))."""
    uniform = jnp.maximum(_TINY, _uniform(bits) * (1 - _TINY) + _TINY)
    return -jnp.log(-jnp.log(uniform))


def gumbel_bound(bits: jax.Array) -> jax.Array:
    """Turn uint32 into what their noise does not exceed, without a logarithm.

    `-log(-log(u)) <= -log(1 - u)`, and for `x = 2^e m` with m in [1, 2) `log2(x)` is at
    least `e + m - 1`, which is what the bits of x say, taken as an integer.
    """
    words = lax.bitcast_convert_type(1 - _uniform(bits), jnp.int32)
    log2 = words.astype(jnp.float32) * np.float32(2.0**-23) - np.float32(127.0)
    return np.float32(_BOUND_SLACK) - np.float32(math.log(2)) * log2
