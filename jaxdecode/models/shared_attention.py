"""Attention of beams over a cache that they share: two products instead of one each.

A prompt's beams are rows of one product with its columns, so that the prompt is read
once for all of them, and rows of one product with everything any of them added; columns
off a beam's path get no weight. One softmax runs over both parts.

Shape suffixes: B prompts, N beams, G query heads of a group, K key and value heads,
M = N * G rows of a product, P prompt columns, T added columns, D head size.
"""

import jax
import jax.numpy as jnp

from jaxdecode.cache import SharedCache
from jaxdecode.core.numerics import NEG_INF
from jaxdecode.core.pytree import pytree
from jaxdecode.models.config import LayerKind
from jaxdecode.models.matrix import batched_matmul
from jaxdecode.models.rope import Rotation
from jaxdecode.models.soft_cap import capped


@pytree
class SharedPlace:
    """Where the new token of every beam is; computed once, shared by all layers.

    Args:
      starts: int32 [B * N], the tokens' positions.
      masks: by look-back window, bool [B, 1, N, 1, P] for the prompt's columns and bool
        [B, 1, N, 1, T] for the added ones.
      rotary: the rotation to the tokens' positions, by kind of layer.
    """

    starts: jax.Array
    masks: dict[int | None, tuple[jax.Array, jax.Array]]
    rotary: dict[LayerKind, Rotation]

    def attend(
        self, q_BSHD: jax.Array, cache: SharedCache, layer: int, kind: LayerKind
    ) -> jax.Array:
        """Return what scaled queries [B * N, 1, H, D] read from a layer."""
        prompt, added = cache.prompts.read(layer), cache.read(layer)
        prompt_mask, added_mask = self.masks[kind.window]
        b, kv, _, d = added[0].shape
        n = cache.beams
        q_BNKGD = q_BSHD.reshape(b, n, kv, -1, d)
        q_BKMD = jnp.swapaxes(q_BNKGD, 1, 2).reshape(b, kv, -1, d)
        scores = (
            _scores(q_BKMD, prompt[0], prompt_mask, kind.score_cap),
            _scores(q_BKMD, added[0], added_mask, kind.score_cap),
        )
        # A beam sees its own column, so the maximum is finite.
        top = jnp.maximum(*(jnp.max(s, axis=-1, keepdims=True) for s in scores))
        weights = [jnp.exp(s - top) for s in scores]
        total = sum(jnp.sum(w, axis=-1, keepdims=True) for w in weights)
        mixed = batched_matmul(weights[0], prompt[1], contract=2)
        mixed = (mixed + batched_matmul(weights[1], added[1], contract=2)) / total
        mixed_BNKGD = jnp.swapaxes(mixed.reshape(b, kv, n, -1, d), 1, 2)
        return mixed_BNKGD.reshape(q_BSHD.shape)


def shared_place(
    positions: jax.Array,
    cache: SharedCache,
    windows: set[int | None],
    rotary: dict[LayerKind, Rotation],
) -> SharedPlace:
    """Return the `SharedPlace` of one token per beam, positions int32 [B * N, 1].

    Raises:
      ValueError: for more than one token per beam.
    """
    if positions.shape[1] != 1:
        raise ValueError(
            "SharedCache: `tokens` must be one per beam, "
            f"got {positions.shape[1]} columns."
        )
    masks = {window: _masks(positions, cache, window) for window in windows}
    return SharedPlace(starts=positions[:, 0], masks=masks, rotary=rotary)


def _masks(positions: jax.Array, cache: SharedCache, window: int | None):
    rows, beams, steps = cache.lengths.shape[0], cache.beams, cache.path.shape[1]
    own = positions.reshape(rows, beams, 1)
    lengths = cache.lengths[:, None, None]
    column = jnp.arange(cache.prompts.length, dtype=jnp.int32)[None, None]
    prompt = (column < lengths) & (column <= own)
    added = cache.on_path(positions[:, 0])
    if window is not None:
        prompt &= column > own - window
        step = jnp.repeat(jnp.arange(steps, dtype=jnp.int32), beams)[None, None]
        added &= lengths + step > own - window
    return prompt[:, None, :, None], added[:, None, :, None]


def _scores(
    q_BKMD: jax.Array, keys: jax.Array, mask: jax.Array, cap: float | None
) -> jax.Array:
    """Return masked scores [B, K, M, columns]; rows are beam-major in M."""
    b, kv, m, _ = q_BKMD.shape
    beams = mask.shape[2]
    scores = batched_matmul(q_BKMD, keys, contract=3)
    scores = capped(scores.reshape(b, kv, beams, m // beams, -1), cap)
    return jnp.where(mask, scores, NEG_INF).reshape(b, kv, m, -1)
