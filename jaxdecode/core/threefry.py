"""The hash behind JAX's default keys, written out.

JAX lowers its own as a rolled loop on CPU: five trips of tiny operations wherever a key
is folded, and several times the work over a whole vocabulary.

Reference: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.shapes import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def threefry(k0: Any, k1: Any, x0: Any, x1: Any) -> tuple[Any, Any]:
    """Hash the counter (x0, x1) with the key (k0, k1): threefry-2x32, 20 rounds.

    Args:
      k0: uint32, one half of the key.
      k1: uint32, the other.
      x0: uint32, one half of the counter, any shape.
      x1: uint32, the other.

    Returns:
      Two arrays of uint32.
    """
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = x0 + k0, x1 + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ _rotate(x1, rotation)
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


def fold_in(keys: jax.Array, data: Array) -> jax.Array:
    """Return `vmap(jax.random.fold_in)(keys, data)`, bit for bit.

    What is known while a program is traced, or outside of one, is hashed by numpy: a
    program on the device for a few keys would have to be compiled first.

    Args:
      keys: typed keys [B].
      data: int32 [B], each >= 0.
    """
    if str(jax.random.key_impl(keys)) != "threefry2x32":
        return jax.vmap(jax.random.fold_in)(keys, data)
    words = jax.random.key_data(keys)
    known = not any(map(check.is_traced, (words, data)))
    if known and words.is_fully_addressable:
        words, counter = np.asarray(words), np.asarray(data, np.uint32)
        halves = threefry(words[:, 0], words[:, 1], np.zeros_like(counter), counter)
        return jax.random.wrap_key_data(jax.device_put(np.stack(halves, axis=-1)))
    counter = jnp.asarray(data).astype(jnp.uint32)
    halves = threefry(words[:, 0], words[:, 1], jnp.zeros_like(counter), counter)
    return jax.random.wrap_key_data(jnp.stack(halves, axis=-1))


def keys_of_seeds(seeds: np.ndarray) -> jax.Array:
    """Return `vmap(jax.random.key)(seeds)`, bit for bit, without a program for it.

    Args:
      seeds: uint32 [...].
    """
    settings = (
        jax.config.values["jax_default_prng_impl"],
        jax.config.values["jax_random_seed_offset"],
    )
    if settings != ("threefry2x32", 0):
        return jax.vmap(jax.random.key)(seeds) if seeds.ndim else jax.random.key(seeds)
    words = np.stack([np.zeros_like(seeds), seeds], axis=-1)
    return jax.random.wrap_key_data(jax.device_put(words))


def _rotate(x: Any, distance: int) -> Any:
    return (x << np.uint32(distance)) | (x >> np.uint32(32 - distance))
