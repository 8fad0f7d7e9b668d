"""Where single tokens of short rows are, on CUDA: one kernel writes and attends.

In programs for other platforms, and for slopes, the same is done step by step.
"""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxdecode.cache import KVCache
from jaxdecode.cache.kv import write_columns
from jaxdecode.core import varying
from jaxdecode.core.platform import lowered_for
from jaxdecode.core.pytree import pytree, static
from jaxdecode.models.config import LayerKind
from jaxdecode.models.plain_attention import attend, visible
from jaxdecode.models.rope import Rotation
from jaxdecode.models.writing import WritesFirst

# Half of the smallest is the least that a product in the kernel contracts. Each is tried
# on a device before the kernel is used there.
HEAD_SIZES = (32, 64, 128, 256)


@pytree
class TokenPlace(WritesFirst):
    """Where the new token of every row is; shared by all layers.

    Args:
      starts: int32 [B], the tokens' positions.
      rotary: the rotation to them, by kind of layer.
      columns: how many of the cache's first columns are read, T. Static.

    Attributes:
      product_parts: into how many parts XLA cuts such products of few rows itself.
    """

    starts: jax.Array
    rotary: dict[LayerKind, Rotation]
    columns: int = static()
    product_parts: ClassVar[int] = 4

    def attend(
        self, q_BSHD: jax.Array, cache: KVCache, layer: int, kind: LayerKind
    ) -> jax.Array:
        """Return what scaled queries read from a layer of the cache, [B, 1, H, D]."""
        k, v = (stored[:, :, : self.columns] for stored in cache.read(layer))
        mask = visible(self.starts[:, None], self.columns, kind.window)
        return attend(q_BSHD, k, v, mask, kind.score_cap)

    def write_and_attend(self, q_BSHD, k_BSKD, v_BSKD, cache, layer, kind, scale):
        """Do `WritesFirst.write_and_attend`, in one kernel where that can.

        Queries, keys and values may be parts to be summed, with an axis in front.
        """
        given, size = (q_BSHD, k_BSKD, v_BSKD), q_BSHD.shape[-1]
        stored, turn = cache.read(layer), self.rotary.get(kind)
        whole = turn is None or turn.cos.shape[-1] == size
        # In a `shard_map` a kernel would have to say how its results vary.
        alone = not varying.axes_of(given, stored)
        if not (whole and alone and _can_attend(size, stored[0])):
            q, k, v = (jnp.sum(x, axis=0) if x.ndim == 5 else x for x in given)
            return super().write_and_attend(q, k, v, cache, layer, kind, scale)
        rows = self.starts.shape[0]
        # In these shapes XLA sees that they are one product's pieces, side by side.
        flat = [x.reshape(*x.shape[:-2], -1) for x in given]
        together = jnp.concatenate(flat, axis=-1)
        heads_PBND = together.reshape(-1, rows, together.shape[-1] // size, size)
        angles = _halves(turn, rows, size)
        how = self.columns, scale, kind.window, kind.score_cap
        mixed, *written = _in_one(heads_PBND, *angles, *stored, self.starts, how)
        return mixed[:, None].astype(jnp.float32), cache.with_layer(layer, *written)


def _can_attend(head_size: int, stored: jax.Array) -> bool:
    """Whether the kernel takes such heads and such a cache array [B, K, T, D]."""
    fits = head_size in HEAD_SIZES and head_size == stored.shape[3]
    return fits and stored.dtype == jnp.bfloat16


def _halves(turn: Rotation | None, rows: int, size: int) -> tuple[jax.Array, jax.Array]:
    """Return cosines and sines [B, D / 2] of a rotation, or of none."""
    if turn is None:
        return jnp.ones((rows, size // 2)), jnp.zeros((rows, size // 2))
    return turn.cos[:, 0, 0, : size // 2], turn.sin[:, 0, 0, size // 2 :]


@functools.partial(jax.custom_jvp, nondiff_argnums=(6,))
def _in_one(heads_PBND, cos, sin, k_BKTD, v_BKTD, positions, how: Any):
    """Return what is read, and the cache's arrays with the new columns in."""
    # Pallas takes long to import, and few programs need it.
    from jaxdecode.native import token_kernel

    _, scale, window, cap = how
    options = {"scale": scale, "window": window, "cap": cap}
    kernel = functools.partial(token_kernel.attend_and_write, **options)
    steps = functools.partial(_step_by_step, how=how)
    given = heads_PBND, cos, sin, k_BKTD, v_BKTD, positions
    return lowered_for(("cuda",), kernel, steps, *given)


@_in_one.defjvp
def _slope(how, primals, tangents):
    return jax.jvp(functools.partial(_step_by_step, how=how), primals, tangents)


def _step_by_step(heads_PBND, cos, sin, k_BKTD, v_BKTD, positions, how: Any):
    columns, scale, window, cap = how
    kv = k_BKTD.shape[1]
    h = heads_PBND.shape[2] - 2 * kv
    heads_BSND = jnp.sum(heads_PBND, axis=0)[:, None]
    q, k, v = jnp.split(heads_BSND, [h, h + kv], axis=2)
    turn = Rotation(
        cos=jnp.concatenate([cos, cos], axis=-1)[:, None, None],
        sin=jnp.concatenate([-sin, sin], axis=-1)[:, None, None],
    )
    q, k = turn(q), turn(k)
    keys, values = (
        write_columns(stored, jnp.swapaxes(new, 1, 2), positions)
        for stored, new in ((k_BKTD, k), (v_BKTD, v))
    )
    mask = visible(positions[:, None], columns, window)
    read = keys[:, :, :columns], values[:, :, :columns]
    mixed = attend(q * scale, *read, mask, cap)[:, 0]
    return mixed.astype(k_BKTD.dtype), keys, values
