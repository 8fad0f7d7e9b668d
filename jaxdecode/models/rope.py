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
from jaxdecode.models.config import LayerKind, ModelConfig
from jaxdecode.models.rope_scaling import RopeScaling


@pytree
class Rotation:
    """Cosines and signed sines of every new token, for all layers of one kind.

    Args:
      cos: float32 [B, S, 1, R], R the size of a head or of its part that is rotated.
      sin: float32 [B, S, 1, R], negative in the first half.
    """

    cos: jax.Array
    sin: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Rotate heads `x` [B, S, H, D] to their positions."""
        size = self.cos.shape[-1]
        if size < x.shape[-1]:
            turned = self(x[..., :size])
            return jnp.concatenate([turned, x[..., size:]], axis=-1)
        half = size // 2
        swapped = jnp.concatenate([x[..., half:], x[..., :half]], axis=-1)
        return x * self.cos + swapped * self.sin


def rotation(positions: jax.Array, kind: LayerKind, size: int) -> Rotation:
    """Return the rotation of heads of `size` to int32 `positions` [B, S]."""
    scaling = kind.rope_scaling
    if scaling is not None and scaling.kind == "dynamic":
        speeds = _rebased(positions, kind, kind.rotary_size or size)
    else:
        speeds = jnp.asarray(frequencies(kind, size))[None, None, :]
    angles = positions.astype(jnp.float32)[..., None] * speeds
    cos, sin = jnp.cos(angles), jnp.sin(angles)  # [B, S, R/2]
    if scaling is not None and scaling.amplitude != 1.0:
        cos, sin = cos * scaling.amplitude, sin * scaling.amplitude
    return Rotation(
        cos=jnp.concatenate([cos, cos], axis=-1)[:, :, None],
        sin=jnp.concatenate([-sin, sin], axis=-1)[:, :, None],
    )


def frequencies(kind: LayerKind, size: int) -> np.ndarray:
    """Return the angle per position of each plane of a rotary kind, float32 [R/2].

    Those of the dynamic kind are for positions of the original training.
    """
    assert kind.rope_theta is not None, "a kind without rotary positions"
    size = kind.rotary_size or size
    plain = kind.rope_theta ** -(np.arange(0, size, 2, dtype=np.float64) / size)
    scaling = kind.rope_scaling
    if scaling is None:
        return plain.astype(np.float32)
    return SCALED[scaling.kind](plain, scaling, kind.rope_theta).astype(np.float32)


def require_finite(config: ModelConfig) -> None:
    """Check that every position of a model has angles.

    Each option of a rotary scaling can be in its range and the frequencies none: they
    are computed when a text is read, and would be the first thing to fail.

    Args:
      config: a model of sizes that were checked, since each plane is computed.

    Raises:
      ValueError: if an angle is no finite number.
    """
    for kind in dict.fromkeys(config.layer_kinds):
        if kind.rope_theta is None:
            continue
        scaling = kind.rope_scaling
        try:
            with np.errstate(all="ignore"):
                speeds = frequencies(kind, config.head_size)
                last = speeds * np.float32(config.max_length)
                amplitude = np.float32(1.0 if scaling is None else scaling.amplitude)
            is_finite = bool(np.isfinite(last).all() and np.isfinite(amplitude))
        except ArithmeticError:
            is_finite = False
        if not is_finite:
            raise ValueError(
                f"rotary positions must have finite angles, got base {kind.rope_theta} "
                f"and {'no scaling' if scaling is None else repr(scaling.kind)}."
            )


def _linear(plain: np.ndarray, scaling: RopeScaling, theta: float) -> np.ndarray:
    return plain / scaling.factor


def _unchanged(plain: np.ndarray, scaling: RopeScaling, theta: float) -> np.ndarray:
    return plain


def _divided(plain: np.ndarray, scaling: RopeScaling, theta: float) -> np.ndarray:
    return plain / np.asarray(scaling.divisors)


def _by_turns(plain: np.ndarray, scaling: RopeScaling, theta: float) -> np.ndarray:
    # How often a plane turned within the original training: few turns are stretched,
    # many are kept, and between the two factors the mix is linear in the turns.
    turns = scaling.original_max_length * plain / (2.0 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return kept * plain + (1.0 - kept) * plain / scaling.factor


def _by_plane(plain: np.ndarray, scaling: RopeScaling, theta: float) -> np.ndarray:
    # Which plane turns so and so often: plane i turns at rate theta ** (-2 i / R).
    size = 2 * len(plain)
    step = 2.0 * math.log(theta) / size

    def plane(turns: float) -> float:
        rate = turns * 2.0 * math.pi / scaling.original_max_length
        return -math.log(rate) / step

    first, last = plane(scaling.beta_fast), plane(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    last += 0.001 if first == last else 0.0  # no division by zero
    stretched = np.clip((np.arange(len(plain)) - first) / (last - first), 0.0, 1.0)
    return stretched * plain / scaling.factor + (1.0 - stretched) * plain


SCALED = {
    "linear": _linear,
    "llama3": _by_turns,
    "yarn": _by_plane,
    "dynamic": _unchanged,
    "longrope": _divided,
}


def _rebased(positions: jax.Array, kind: LayerKind, size: int) -> jax.Array:
    """Return the speeds [B, S, R/2] of the dynamic kind: those of a text that ends there.

    A text read token by token gives each token the base of its own length. A position
    then has one rotation, whatever is read at once.
    """
    scaling = kind.rope_scaling
    assert scaling is not None
    assert kind.rope_theta is not None
    length = jnp.maximum(positions + 1, scaling.original_max_length)
    grown = length.astype(jnp.float32) / scaling.original_max_length
    grown = scaling.factor * grown - (scaling.factor - 1.0)
    base = kind.rope_theta * grown ** (size / max(size - 2, 1))
    powers = np.arange(0, size, 2, dtype=np.float32) / size
    return 1.0 / base[..., None] ** jnp.asarray(powers)[None, None, :]
