"""Attention of beams over a cache that they share: two products instead of one each.

A prompt's beams are rows of one product with its columns, so that the prompt is read
once for all of them, and rows of one product with everything any of them added; columns
off a beam's path get no weight. One softmax runs over both parts. A long part is read
block after block where the platform wants that, as in `block_attention`, and no further
than anything was written.

Shape suffixes: B prompts, N beams, G query heads of a group, K key and value heads,
M = N * G rows of a product, P prompt columns, T added columns, D head size.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdecode.cache import SharedCache
from jaxdecode.core import varying
from jaxdecode.core.numerics import NEG_INF
from jaxdecode.core.platform import Blocks, Platform
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.soft_cap import capped
from jaxdecode.models.block_attention import block_of, finished, nothing, visited
from jaxdecode.models.config import LayerKind
from jaxdecode.models.matrix import batched_matmul
from jaxdecode.models.rope import Rotation
from jaxdecode.models.writing import WritesFirst

Spans = tuple[tuple[jax.Array, jax.Array], ...]


@pytree
class SharedPlace(WritesFirst):
    """Where the new token of every beam is; computed once, shared by all layers.

    Args:
      starts: int32 [B * N], the tokens' positions.
      masks: by look-back window, bool [B, 1, N, 1, P] for the prompt's columns and bool
        [B, 1, N, 1, T] for the added ones that are read.
      spans: by look-back window, of the prompt's and of the added columns the first
        block that some beam sees and the one after the last, int32 (). Unused where no
        blocks are read.
      rotary: the rotation to the tokens' positions, by kind of layer.
      blocks: how a long part is read; None is at once.
    """

    starts: jax.Array
    masks: dict[int | None, tuple[jax.Array, jax.Array]]
    spans: dict[int | None, Spans]
    rotary: dict[LayerKind, Rotation]
    blocks: Blocks | None = static()

    def attend(
        self, q_BSHD: jax.Array, cache: SharedCache, layer: int, kind: LayerKind
    ) -> jax.Array:
        """Return what scaled queries read from a layer."""
        masks = self.masks[kind.window]
        columns = masks[1].shape[-1]
        added = tuple(stored[:, :, :columns] for stored in cache.read(layer))
        parts = cache.prompts.read(layer), added
        b, kv, _, d = added[0].shape
        n = cache.beams
        q_BNKGD = q_BSHD.reshape(b, n, kv, -1, d)
        q_BKMD = jnp.swapaxes(q_BNKGD, 1, 2).reshape(b, kv, -1, d)
        if self.blocks is None:
            mixed = _mix_at_once(q_BKMD, parts, masks, kind.score_cap)
        else:
            given = parts, masks, self.spans[kind.window], kind.score_cap, self.blocks
            mixed = _mix_by_blocks(q_BKMD, *given)
        mixed_BNKGD = jnp.swapaxes(mixed.reshape(b, kv, n, -1, d), 1, 2)
        return mixed_BNKGD.reshape(q_BSHD.shape)


def shared_place(
    positions: jax.Array,
    cache: SharedCache,
    windows: set[int | None],
    rotary: dict[LayerKind, Rotation],
    platform: Platform,
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
    columns = cache.path.shape[1] * cache.beams
    columns = min(columns, platform.columns_read or columns)
    sizes = cache.prompts.length, columns
    blocks = platform.blocks if platform.branches_on_device else None
    if blocks is not None and max(sizes) <= blocks.columns_whole:
        blocks = None
    masks = {w: _masks(positions, cache, w, columns) for w in windows}
    spans = {} if blocks is None else {w: _spans(masks[w], blocks) for w in windows}
    return SharedPlace(positions[:, 0], masks, spans, rotary, blocks)


def _masks(positions: jax.Array, cache: SharedCache, window: int | None, columns: int):
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
    return prompt[:, None, :, None], added[:, None, :, None, :columns]


def _spans(masks: tuple[jax.Array, ...], blocks: Blocks) -> Spans:
    """Return the first block in which some column is seen, and the one after the last."""

    def span(mask):
        seen = jnp.any(mask, axis=range(mask.ndim - 1))
        column = jnp.arange(seen.shape[0], dtype=jnp.int32)
        first = jnp.min(jnp.where(seen, column, seen.shape[0]))
        end = jnp.max(jnp.where(seen, column + 1, 0))
        return first // blocks.columns, -(-end // blocks.columns)

    return tuple(map(span, masks))


def _mix_at_once(q_BKMD: jax.Array, parts: Any, masks: Any, cap: float | None):
    (k_prompt, v_prompt), (k_added, v_added) = parts
    scores = (
        _scores(q_BKMD, k_prompt, masks[0], cap),
        _scores(q_BKMD, k_added, masks[1], cap),
    )
    # A beam sees its own column, so the maximum is finite.
    top = jnp.maximum(*(jnp.max(s, axis=-1, keepdims=True) for s in scores))
    weights = [jnp.exp(s - top) for s in scores]
    total = sum(jnp.sum(w, axis=-1, keepdims=True) for w in weights)
    mixed = batched_matmul(weights[0], v_prompt, contract=2)
    return (mixed + batched_matmul(weights[1], v_added, contract=2)) / total


def _mix_by_blocks(
    q_BKMD: jax.Array,
    parts: Any,
    masks: Any,
    spans: Spans,
    cap: float | None,
    blocks: Blocks,
) -> jax.Array:
    carry = nothing(q_BKMD)
    for (k, v), mask, (first, end) in zip(parts, masks, spans, strict=True):
        size = min(blocks.columns, mask.shape[-1])

        def visit(index, carry, k=k, v=v, mask=mask, size=size):
            (k, v), _, new = block_of((k, v), size, index, axis=2)
            seen, _, _ = block_of(mask, size, index, axis=4)
            seen_BKMT = _by_rows(seen & new[None, None, None, None], q_BKMD.shape[2])
            return visited(carry, q_BKMD, k, v, seen_BKMT, cap)

        read = q_BKMD, k, v, mask, first, end
        carry = varying.settled(lambda c, f=first, v=visit: v(f, c), carry, read)
        carry = lax.fori_loop(first, end, visit, carry)
    return finished(carry)


def _by_rows(mask: jax.Array, rows: int) -> jax.Array:
    """Return a mask [B, 1, N, 1, columns] as [B, 1, M, columns], beam-major in M."""
    b, _, n, _, columns = mask.shape
    every = jnp.broadcast_to(mask, (b, 1, n, rows // n, columns))
    return every.reshape(b, 1, rows, columns)


def _scores(
    q_BKMD: jax.Array, keys: jax.Array, mask: jax.Array, cap: float | None
) -> jax.Array:
    """Return masked scores [B, K, M, columns]; rows are beam-major in M."""
    b, kv, m, _ = q_BKMD.shape
    beams = mask.shape[2]
    scores = batched_matmul(q_BKMD, keys, contract=3)
    scores = capped(scores.reshape(b, kv, beams, m // beams, -1), cap)
    return jnp.where(mask, scores, NEG_INF).reshape(b, kv, m, -1)
