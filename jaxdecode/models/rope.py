"""Rotary positions: angles per position, and the rotation of a head by halves.

A head's first half and second half are the two coordinates of its D/2 planes, as in
Hugging Face checkpoints; files that pair neighbours must be permuted when read.

Reference: Su et al., RoFormer, 2021, arXiv 2104.09864.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.pytree import pytree
from jaxdecode.models.config import LayerKind, RopeScaling


@pytree
class Rotation:
    """Cosines and signed sines of every new token, for all layers of one kind.

    Args:
      cos: float32 [B, S, 1, D].
      sin: float32 [B, S, 1, D], negative in the first half.
    """

    cos: jax.Array
    sin: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Rotate heads `x` [B, S, H, D] to their positions."""
        half = x.shape[-1] // 2
        swapped = jnp.concatenate([x[..., half:], x[..., :half]], axis=-1)
        return x * self.cos + swapped * self.sin


def rotation(positions: jax.Array, kind: LayerKind, size: int) -> Rotation:
    """Return the rotation of heads of `size` to int32 `positions` [B, S]."""
    speeds = jnp.asarray(frequencies(kind, size))
    angles = positions.astype(jnp.float32)[..., None] * speeds[None, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)  # [B, S, D/2]
    return Rotation(
        cos=jnp.concatenate([cos, cos], axis=-1)[:, :, None],
        sin=jnp.concatenate([-sin, sin], axis=-1)[:, :, None],
    )


def frequencies(kind: LayerKind, size: int) -> np.ndarray:
    """Return the angle per position of each plane of a rotary kind, float32 [D/2]."""
    assert kind.rope_theta is not None, "a kind without rotary positions"
    plain = kind.rope_theta ** -(np.arange(0, size, 2, dtype=np.float64) / size)
    scaling = kind.rope_scaling
    if scaling is None:
        return plain.astype(np.float32)
    if scaling.kind == "linear":
        return (plain / scaling.factor).astype(np.float32)
    return _blend(plain, scaling).astype(np.float32)


def _blend(plain: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    # How often a plane turned within the original training: few turns are stretched,
    # many are kept, and between the two factors the mix is linear in the turns.
    turns = scaling.original_max_length * plain / (2.0 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return kept * plain + (1.0 - kept) * plain / scaling.factor
