"""Gumbel noise addressed by token id: the noise `jax.random.categorical` would use.

`jax.random.categorical(key, row)` is the argmax of `row + gumbel(key, (V,))`. Threefry
is counter-based: the 32 bits of entry i are a hash of (key, i), so the noise of a few
candidates costs a few hashes. The hash is written out here because JAX lowers its own
as a rolled loop on CPU, several times slower over a whole vocabulary.

Reference: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
"""

import jax
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_TINY = np.float32(np.finfo(np.float32).tiny)
_ONE_BITS = np.uint32(np.float32(1.0).view(np.uint32))


def gumbel_at(key: jax.Array, ids: jax.Array, vocab_size: int) -> jax.Array:
    """Return the Gumbel noise of token ids under one step key.

    Equal bit for bit to `jax.random.gumbel(key, (vocab_size,))[ids]`.

    Args:
      key: one typed key.
      ids: int32 [K], each below `vocab_size`.
      vocab_size: V.

    Returns:
      float32 [K].
    """
    if not is_addressable(key):
        return _whole_gumbel(key, vocab_size)[ids]
    bits = _random_bits(jax.random.key_data(key), ids.astype(jnp.uint32))
    return _gumbel(bits)


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
    high, low = _threefry(key[0], key[1], jnp.zeros_like(counts), counts)
    return high ^ low


def _threefry(k0: jax.Array, k1: jax.Array, x0: jax.Array, x1: jax.Array):
    """Hash the counter (x0, x1) with the key (k0, k1): threefry-2x32, 20 rounds."""
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = x0 + k0, x1 + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ _rotate(x1, rotation)
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


def _rotate(x: jax.Array, distance: int) -> jax.Array:
    return (x << np.uint32(distance)) | (x >> np.uint32(32 - distance))


def _gumbel(bits: jax.Array) -> jax.Array:
    """Turn bits into noise as JAX does: a float in [tiny, 1), then -log(-log(u))."""
    floats = jax.lax.bitcast_convert_type(
        (bits >> np.uint32(9)) | _ONE_BITS, jnp.float32
    )
    uniform = jnp.maximum(_TINY, (floats - np.float32(1.0)) * (1 - _TINY) + _TINY)
    return -jnp.log(-jnp.log(uniform))
