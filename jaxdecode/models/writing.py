"""What most kinds of places do with new tokens: rotate, write to the cache, then attend.

Shape suffixes: B rows, S new tokens, H query heads, K key and value heads, D head size.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxdecode.models.config import LayerKind
from jaxdecode.models.rope import Rotation


class WritesFirst:
    """A place in a cache; subclasses say how queries read what was written."""

    starts: Any  # int32 [B], position of each row's first new token
    rotary: dict[LayerKind, Rotation]
    product_parts: ClassVar[int] = 1  # of the products that are summed by who attends

    def attend(
        self, q_BSHD: jax.Array, cache: Any, layer: Any, kind: LayerKind
    ) -> jax.Array:
        """Return what rotated, scaled queries read from a layer, [B, S, H, D]."""
        raise NotImplementedError

    def write_and_attend(
        self,
        q_BSHD: jax.Array,
        k_BSKD: jax.Array,
        v_BSKD: jax.Array,
        cache: Any,
        layer: Any,
        kind: LayerKind,
        scale: float,
    ) -> tuple[jax.Array, Any]:
        """Return what new tokens read, float32 [B, S, H, D], and the cache with them in.

        Args:
          q_BSHD: float32 queries, neither rotated nor scaled.
          k_BSKD: float32 keys, not rotated.
          v_BSKD: float32 values.
          cache: what is remembered so far.
          layer: number of the block.
          kind: of the block.
          scale: what scores are multiplied by.
        """
        q, k, v = q_BSHD, k_BSKD, v_BSKD
        size = q.shape[-1]
        if kind in self.rotary:
            q, k = map(self.rotary[kind], (q, k))
        q, k, v = (_filled_up(x, cache.size) for x in (q, k, v))
        new_k, new_v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)  # [B, K, S, D]
        cache = cache.write(layer, new_k, new_v, self.starts)
        mixed = self.attend(q * scale, cache, layer, kind)
        return (mixed[..., :size] if cache.size > size else mixed), cache


def _filled_up(heads: jax.Array, size: int) -> jax.Array:
    """Return heads [..., D] as the cache keeps them, with zeros behind their numbers."""
    missing = size - heads.shape[-1]
    return jnp.pad(heads, [(0, 0)] * 3 + [(0, missing)]) if missing else heads
