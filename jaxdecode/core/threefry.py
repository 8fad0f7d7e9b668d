"""The hash behind JAX's default keys, written out.

JAX lowers its own as a rolled loop on CPU: five trips of tiny operations wherever a key
is folded, and several times the work over a whole vocabulary.

Reference: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.shapes import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def threefry(k0: jax.Array, k1: jax.Array, x0: jax.Array, x1: jax.Array):
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

    Args:
      keys: typed keys [B].
      data: int32 [B], each >= 0.
    """
    if str(jax.random.key_impl(keys)) != "threefry2x32":
        return jax.vmap(jax.random.fold_in)(keys, data)
    words = jax.random.key_data(keys)
    counter = jnp.asarray(data).astype(jnp.uint32)
    halves = threefry(words[:, 0], words[:, 1], jnp.zeros_like(counter), counter)
    return jax.random.wrap_key_data(jnp.stack(halves, axis=-1))


def _rotate(x: jax.Array, distance: int) -> jax.Array:
    return (x << np.uint32(distance)) | (x >> np.uint32(32 - distance))
