"""Causal attention over a cache: the layer, and where its new tokens are in the cache.

Shape suffixes: B rows, S new tokens, T columns, H query heads, K key and value heads,
D head size.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.cache import KVCache, SharedCache, StackedCache, as_numbers
from jaxdecode.core.platform import Blocks, Platform
from jaxdecode.core.pytree import pytree, static
from jaxdecode.models.block_attention import block_place
from jaxdecode.models.config import LayerKind, ModelConfig
from jaxdecode.models.layers import (
    LayerNorm,
    Linear,
    RMSNorm,
    can_project_in_parts,
    project,
    project_in_parts,
    project_onto,
)
from jaxdecode.models.matrix import CACHE_DTYPE
from jaxdecode.models.plain_attention import attend, visible
from jaxdecode.models.rope import Rotation, rotation
from jaxdecode.models.shared_attention import shared_place
from jaxdecode.models.token_attention import TokenPlace
from jaxdecode.models.writing import WritesFirst
from jaxdecode.native import HEAD_MULTIPLE, attend_columns


@pytree
class Place(WritesFirst):
    """Where the new tokens of a call are; computed once, shared by all layers.

    Args:
      positions: int32 [B, S], of the new tokens.
      masks: bool [B, 1, 1, S, T] by look-back window (None: no limit): whether token s
        attends to column t.
      rotary: the rotation to the tokens' positions, by kind of layer; empty without
        rotary positions.
      columns: how many of the cache's first columns are read, T.
    """

    positions: jax.Array
    masks: dict[int | None, jax.Array]
    rotary: dict[LayerKind, Rotation]
    columns: int = static()

    @property
    def starts(self) -> jax.Array:
        """Position of each row's first new token, int32 [B]."""
        return self.positions[:, 0]

    def attend(
        self,
        q_BSHD: jax.Array,
        cache: KVCache | StackedCache,
        layer: Any,
        kind: LayerKind,
    ) -> jax.Array:
        """Return what scaled queries read from a layer of the cache, [B, S, H, D]."""
        window = kind.window
        if isinstance(cache, StackedCache):
            stored, at = (cache.keys, cache.values), (self.positions, jnp.int32(layer))
            twin = functools.partial(_attend_visible, window=window)
            return attend_columns(q_BSHD, *stored, *at, window, twin)
        read = cache.read(layer)
        if self.columns < cache.length:
            read = [stored[:, :, : self.columns] for stored in read]
        return attend(q_BSHD, *read, self.masks[window], kind.score_cap)


def place(
    positions: jax.Array,
    cache: KVCache | StackedCache | SharedCache,
    config: ModelConfig,
    *,
    platform: Platform,
) -> tuple[Any, Any]:
    """Return the `Place` of tokens at int32 `positions` [B, S], and the cache for them.

    Each kind of cache has its kind of place; a long one has another on some platforms.
    """
    kinds = dict.fromkeys(config.layer_kinds)
    windows = {kind.window for kind in kinds}
    rotary = {
        kind: rotation(positions, kind, config.head_size)
        for kind in kinds
        if kind.rope_theta is not None
    }
    if isinstance(cache, SharedCache):
        if positions.shape[1] == 1:
            cache = cache.open(positions[:, 0])
        return shared_place(positions, cache, windows, rotary, platform), cache
    columns, heads = cache.length, config.num_heads
    if isinstance(cache, KVCache):
        if blocks := _blocks_for(positions, columns, heads, platform):
            given = columns, heads, windows, rotary, blocks
            return block_place(positions, *given), cache
        if positions.shape[1] == 1:
            columns = min(columns, platform.columns_read or columns)
            blocks = platform.blocks if platform.token_kernel else None
            if blocks is not None and columns <= blocks.columns_whole:
                return TokenPlace(positions[:, 0], rotary, columns), cache
    where = Place(
        positions=positions,
        masks={w: visible(positions, columns, w) for w in windows},
        rotary=rotary,
        columns=columns,
    )
    return where, cache


def _blocks_for(
    positions: jax.Array, columns: int, heads: int, platform: Platform
) -> Blocks | None:
    """Return how tokens read the columns of a cache by blocks, if they do.

    Each block may be a question to the host: little beside the work of a prompt's tokens,
    much beside that of single ones.
    """
    blocks = platform.blocks
    if blocks is None or columns <= blocks.columns:
        return None
    if positions.shape[1] == 1:
        is_long = platform.branches_on_device and columns > blocks.columns_whole
    else:
        is_long = positions.size * heads * columns > blocks.scores_max
    return blocks if is_long else None


def empty_cache(
    config: ModelConfig,
    rows: int,
    length: int,
    dtype: str,
    *,
    platform: Platform,
    in_kernels: bool = False,
) -> KVCache | StackedCache:
    """Return a cache of zeros for `rows` sequences of up to `length` tokens.

    The kernels attend to it if they read the weights, too, and can take such heads and
    such numbers and scores.
    """
    if not 1 <= length <= config.max_length:
        raise ValueError(
            f"init_cache: `length` must be in [1, {config.max_length}], the positions "
            f"the model can hold, got {length}."
        )
    numbers = CACHE_DTYPE[dtype]
    plain = all(kind.score_cap is None for kind in config.layer_kinds)
    by_kernels = in_kernels and plain and config.head_size % HEAD_MULTIPLE == 0
    by_kernels &= platform.words or numbers != "bfloat16"
    kind = StackedCache if by_kernels else KVCache
    return kind.empty(
        layers=config.num_layers,
        rows=rows,
        heads=config.kv_heads,
        length=_stored_columns(length, platform),
        size=_stored_size(config.head_size, length, platform),
        dtype=numbers,
        words=platform.words,
    )


def _stored_columns(length: int, platform: Platform) -> int:
    """Return how many columns a cache for rows of `length` tokens has."""
    if platform.blocks is None or length <= platform.blocks.columns_whole:
        return length
    return -(-length // platform.columns_multiple) * platform.columns_multiple


def _stored_size(size: int, length: int, platform: Platform) -> int:
    """Return how many numbers a head has in a cache of `length` columns."""
    if platform.blocks is None or length <= platform.blocks.columns:
        return size
    return -(-size // platform.lanes) * platform.lanes


class Attention(nnx.Module):
    """Grouped-query attention with a cache.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.

    Reference: Ainslie et al., GQA, 2023, arXiv 2305.13245.
    """

    def __init__(
        self, config: ModelConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ):
        always = config.has_biases
        size, width = config.head_size, config.width
        q_size, kv_size = config.num_heads * size, config.kv_heads * size
        kind = {"dtype": dtype, "rngs": rngs}
        self.q = Linear(width, q_size, bias=always or config.qkv_bias, **kind)
        self.k = Linear(width, kv_size, bias=always or config.qkv_bias, **kind)
        self.v = Linear(width, kv_size, bias=always or config.qkv_bias, **kind)
        self.o = Linear(q_size, width, bias=always or config.output_bias, **kind)
        norms = self.make_norms(config)
        self.q_norm, self.k_norm = norms or (None, None)
        self.head_size = size
        self.kind = config.layer_kind(layer)
        self.scale = config.score_scale(layer)

    def __call__(
        self,
        x: jax.Array,
        norm: RMSNorm | LayerNorm | None,
        where: Any,
        cache: Any,
        layer: Any,
        *,
        onto: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Return what attention makes of `x` [B, S, W], and the cache with it in.

        Args:
          x: float32 [B, S, W].
          norm: what normalises it; None is nothing.
          where: the tokens' `Place` in a cache of its kind.
          cache: what is remembered so far.
          layer: number of the block, which is where the cache keeps its columns; an int,
            or int32 () in a loop over blocks.
          onto: float32 [B, S, W], what the result is added to; None is nothing.
        """
        maps, parts = (self.q, self.k, self.v), where.product_parts
        if parts > 1 and self.q_norm is None and can_project_in_parts(parts, *maps):
            q, k, v = project_in_parts(x, norm, parts, *maps)
        else:
            q, k, v = project(x, norm, *maps)
        (q, k), v = self.normalised(q, k), self.heads(v)
        of_block = layer, self.kind, self.scale
        mixed, cache = where.write_and_attend(q, k, v, cache, *of_block)
        mixed = mixed.reshape(*x.shape[:-1], -1)
        return project_onto(onto, mixed, None, self.o), cache

    def make_norms(self, config: ModelConfig) -> tuple[RMSNorm, RMSNorm] | None:
        """Return what normalises queries and keys, or None."""
        if not config.qk_norm:
            return None
        size, eps = config.head_size, config.norm_eps
        return RMSNorm(size, eps=eps), RMSNorm(size, eps=eps)

    def normalised(self, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Split queries and keys into heads; normalise each where the config says so."""
        q, k = self.heads(q), self.heads(k)
        if self.q_norm is None or self.k_norm is None:
            return q, k
        return self.q_norm(q), self.k_norm(k)

    def heads(self, flat: jax.Array) -> jax.Array:
        """Split the last axis into heads: [B, S, H, D]."""
        return flat.reshape(*flat.shape[:-1], -1, self.head_size)


def _attend_visible(q_BSHD, keys, values, positions, layer, *, window):
    """Do what `attend_columns` does, in plain JAX."""
    keys, values = keys[:, layer], values[:, layer]
    mask = visible(positions, keys.shape[2], window)
    return attend(q_BSHD, as_numbers(keys), as_numbers(values), mask)
