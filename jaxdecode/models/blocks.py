"""Blocks one after the other: written out, or as one loop over blocks that are alike.

A loop is traced, lowered and compiled once instead of once per block. It pays where a
block's weights and its part of the cache can be read by number, without being moved: in
the kernels.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.cache import StackedCache
from jaxdecode.core import varying
from jaxdecode.native import Choice, Panels


def run_blocks(
    blocks: Sequence[Any], x: jax.Array, where: Any, cache: Any
) -> tuple[jax.Array, Any]:
    """Return what the last block makes of `x` [B, S, W], and the cache.

    Args:
      blocks: each `block(x, where, cache, layer) -> (x, cache)`, an nnx module.
      x: float32 [B, S, W].
      where: the tokens' place in the cache.
      cache: what is remembered so far. In a `StackedCache`, blocks that differ in
        nothing but their arrays are run in a loop; so are blocks that repeat after a
        few, such as one with full attention after five with a window.
    """
    if isinstance(cache, StackedCache):
        done, x, cache = _loop(blocks, x, where, cache)
    else:
        done = 0
    for layer in range(done, len(blocks)):
        x, cache = blocks[layer](x, where, cache, layer)
    return x, cache


def _loop(
    blocks: Sequence[Any], x: jax.Array, where: Any, cache: StackedCache
) -> tuple[int, jax.Array, StackedCache]:
    """Run the blocks that repeat; return how many they were as well, 0 if none do."""
    if not all(map(_is_read_by_number, blocks)):
        return 0, x, cache
    period = _period([_kind(block) for block in blocks])
    rounds = len(blocks) // period
    if rounds < 2:
        return 0, x, cache
    done = rounds * period
    groups = [blocks[first:done:period] for first in range(period)]

    def body(carry, index):
        x, cache = carry
        for first, group in enumerate(groups):
            block = _chosen(group, index)
            x, cache = block(x, where, cache, index * period + first)
        return (x, cache), None

    counted = jnp.arange(rounds, dtype=jnp.int32)
    x, cache = varying.scan(body, (x, cache), counted)[0]
    return done, x, cache


def _chosen(group: Sequence[Any], index: jax.Array) -> Any:
    """Return the block number `index` of a group of blocks that are alike."""
    return jax.tree.map(
        lambda *options: Choice(options, index),
        *group,
        is_leaf=lambda leaf: isinstance(leaf, Panels),
    )


def _is_read_by_number(block: Any) -> bool:
    """Return whether no matrix must be moved for a loop to choose it."""
    leaves = jax.tree.leaves(block, is_leaf=lambda leaf: isinstance(leaf, Panels))
    return all(isinstance(leaf, Panels) or leaf.ndim < 2 for leaf in leaves)


def _kind(block: Any) -> Any:
    """Return all that tells blocks apart but the numbers in their arrays."""
    leaves, structure = jax.tree.flatten(block)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _period(kinds: list[Any]) -> int:
    """Return after how many blocks their kinds repeat; the number of blocks if never."""
    count = len(kinds)
    return next(
        period
        for period in range(1, count + 1)
        if all(kinds[i] == kinds[i - period] for i in range(period, count))
    )
