"""Attention to a long cache, block after block of its columns, with a running softmax.

    top, total, mixed = -inf, 0, 0
    for block in the blocks from the first column in sight to the last token's own:
        scores = q @ keys[block].T, capped, -inf where hidden
        new = max(top, max(scores))
        total = total * exp(top - new) + sum(exp(scores - new))
        mixed = mixed * exp(top - new) + exp(scores - new) @ values[block]
        top = new
    return mixed / total

Scores of all columns never exist at once, and columns that nobody wrote are not read. It
is `attention.attend` up to rounding, and has its slope: that of the same loop over all
blocks, whose scores are computed again on the way back.

The platforms' own kernels do not serve (jax 0.10, 2026-11): cuDNN gets a transposed copy
of the cache through `jax.nn.dot_product_attention`, its causal mask begins at column 0,
and scores have no cap; flash and splash attention for TPU take no positions that are
traced, and XLA's partitioner cannot cut them.

Shape suffixes: B rows, S new tokens, N parts of P tokens each, T columns, H query heads,
K key and value heads, G = H / K query heads of a group, M = G * P rows of a product, D
head size.

References: Milakov and Gimelshein, Online normalizer calculation for softmax, 2018, arXiv
1805.02867; Dao et al., FlashAttention, 2022, arXiv 2205.14135.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdecode.cache import KVCache
from jaxdecode.core import varying
from jaxdecode.core.numerics import NEG_INF
from jaxdecode.core.platform import Blocks
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.soft_cap import capped
from jaxdecode.models.config import LayerKind
from jaxdecode.models.matrix import batched_matmul
from jaxdecode.models.rope import Rotation
from jaxdecode.models.writing import WritesFirst


@pytree
class BlockPlace(WritesFirst):
    """Where the new tokens of a call are in a long cache; shared by all layers.

    Args:
      starts: int32 [B], position of each row's first new token.
      parts: int32 [N, B, P], all positions; the last ones are repeated to fill a part.
      spans: by look-back window, the first block that a part's tokens see and the one
        after the last, int32 [N] each.
      rotary: the rotation to the tokens' positions, by kind of layer.
      blocks: how the cache is read.
    """

    starts: jax.Array
    parts: jax.Array
    spans: dict[int | None, tuple[jax.Array, jax.Array]]
    rotary: dict[LayerKind, Rotation]
    blocks: Blocks = static()

    def attend(
        self, q_BSHD: jax.Array, cache: KVCache, layer: int, kind: LayerKind
    ) -> jax.Array:
        """Return what scaled queries read from a layer of the cache, [B, S, H, D]."""
        k_BKTD, v_BKTD = cache.read(layer)
        b, s, h, d = q_BSHD.shape
        n, _, p = self.parts.shape
        kv = k_BKTD.shape[1]
        rest = (0, 0), (0, n * p - s), (0, 0), (0, 0)
        padded = jnp.pad(q_BSHD.astype(k_BKTD.dtype), rest)
        q_NBKGPD = padded.reshape(b, n, p, kv, h // kv, d).transpose(1, 0, 3, 4, 2, 5)
        q_NBKMD = q_NBKGPD.reshape(n, b, kv, -1, d)
        own_NBM = jnp.tile(self.parts, h // kv)
        given = q_NBKMD, own_NBM, *self.spans[kind.window]

        def of_part(part):
            q, own, first, end = part
            arrays = q, k_BKTD, v_BKTD, own, first, end
            return _mix(*arrays, (kind.window, kind.score_cap, self.blocks))

        if n == 1:
            mixed = of_part(jax.tree.map(lambda leaf: leaf[0], given))[None]
        else:
            mixed = lax.map(of_part, given)
        mixed_NBKGPD = mixed.reshape(q_NBKGPD.shape)
        mixed_BNPKGD = mixed_NBKGPD.transpose(1, 0, 4, 2, 3, 5)
        return mixed_BNPKGD.reshape(b, n * p, h, d)[:, :s]


def block_place(
    positions: jax.Array,
    columns: int,
    heads: int,
    windows: set[int | None],
    rotary: dict[LayerKind, Rotation],
    blocks: Blocks,
) -> BlockPlace:
    """Return the `BlockPlace` of tokens at int32 `positions` [B, S].

    Args:
      positions: of the new tokens.
      columns: of the cache, T.
      heads: query heads, H.
      windows: look-back windows of the layers.
      rotary: as in the result.
      blocks: how the cache is read.
    """
    rows, new = positions.shape
    size = _tokens_at_once(blocks, rows * heads, new)
    count = -(-new // size)
    padded = jnp.pad(positions, ((0, 0), (0, count * size - new)), mode="edge")
    parts = padded.reshape(rows, count, size).transpose(1, 0, 2)
    lowest, highest = jnp.min(parts, axis=(1, 2)), jnp.max(parts, axis=(1, 2))
    last = -(-columns // blocks.columns)
    end = jnp.minimum(highest // blocks.columns + 1, last)
    spans = {w: (_first_block(lowest, w, blocks), end) for w in windows}
    return BlockPlace(positions[:, 0], parts, spans, rotary, blocks)


def _tokens_at_once(blocks: Blocks, rows: int, new: int) -> int:
    """Return how many tokens attend at once: a power of two, or all of them."""
    fitting = max(1, blocks.scores_max // (rows * blocks.columns))
    return min(1 << fitting.bit_length() - 1, new)


def _first_block(lowest: jax.Array, window: int | None, blocks: Blocks) -> jax.Array:
    if window is None:
        return jnp.zeros_like(lowest)
    return jnp.maximum(lowest - window + 1, 0) // blocks.columns


@functools.partial(jax.custom_jvp, nondiff_argnums=(6,))
def _mix(
    q_BKMD: jax.Array,
    k_BKTD: jax.Array,
    v_BKTD: jax.Array,
    own: jax.Array,
    first: jax.Array,
    end: jax.Array,
    how: tuple[int | None, float | None, Blocks],
) -> jax.Array:
    """Mix the values that one part's tokens see; no block out of sight is visited.

    Args:
      q_BKMD: scaled queries, in the type of the keys.
      k_BKTD: keys.
      v_BKTD: values.
      own: int32 [B, M], the positions of the rows.
      first: int32 (), the first block.
      end: int32 (), the one after the last.
      how: look-back window, score cap and blocks.

    Returns:
      float32 [B, K, M, D].
    """
    given = q_BKMD, k_BKTD, v_BKTD, own

    def visit(index, carry):
        return _visit(given, how, carry, index)

    read = *given, first, end
    carry = varying.settled(lambda c: visit(first, c), nothing(q_BKMD), read)
    return finished(lax.fori_loop(first, end, visit, carry))


@_mix.defjvp
def _slope_of_mix(how, primals, tangents):
    """Every block is visited: a loop of unknown length has no slope backwards."""
    q, k, v, own, _, _ = primals
    count = -(-k.shape[2] // how[2].columns)

    def mix(q, k, v):
        given = q, k, v, own
        visit = jax.checkpoint(functools.partial(_visit, given, how))

        def step(carry, index):
            return visit(carry, index), None

        indices = jnp.arange(count, dtype=jnp.int32)
        return finished(varying.scan(step, nothing(q), indices, given=given)[0])

    return jax.jvp(mix, (q, k, v), tangents[:3])


def nothing(q_BKMD: jax.Array) -> tuple[jax.Array, ...]:
    """Return maximum and sum [B, K, M, 1] and mix [B, K, M, D] of no column."""
    top = jnp.full((*q_BKMD.shape[:3], 1), NEG_INF, jnp.float32)
    return top, jnp.zeros_like(top), jnp.zeros(q_BKMD.shape, jnp.float32)


def finished(carry: tuple[jax.Array, ...]) -> jax.Array:
    """Return the mixed values of all columns that were visited, [B, K, M, D]."""
    _, total, mixed = carry
    return mixed / total


def _visit(given: Any, how: Any, carry: Any, index: jax.Array) -> Any:
    """Return maximum, sum and mix with the columns of one block."""
    (q_BKMD, k_BKTD, v_BKTD, own), (window, cap, blocks) = given, how
    (k, v), column, seen = block_of((k_BKTD, v_BKTD), blocks.columns, index, axis=2)
    column, own = column[None, None, None], own[:, None, :, None]
    seen = seen[None, None, None] & (column <= own)
    if window is not None:
        seen &= column > own - window
    return visited(carry, q_BKMD, k, v, seen, cap)


def block_of(
    arrays: Any, size: int, index: jax.Array, *, axis: int
) -> tuple[Any, jax.Array, jax.Array]:
    """Return one block of the columns of some arrays.

    Args:
      arrays: with columns along `axis`, at least `size` of them.
      size: columns of a block.
      index: int32 (), which block.
      axis: of the columns.

    Returns:
      The arrays' block; its columns, int32 [size]; and whether no earlier block had
      them, bool [size].
    """
    columns = jax.tree.leaves(arrays)[0].shape[axis]
    begin = index * size
    # The last block begins earlier where it would reach beyond the columns.
    start = jnp.minimum(begin, columns - size)
    block = jax.tree.map(
        lambda x: lax.dynamic_slice_in_dim(x, start, size, axis), arrays
    )
    column = start + jnp.arange(size, dtype=jnp.int32)
    return block, column, column >= begin


def visited(
    carry: tuple[jax.Array, ...],
    q_BKMD: jax.Array,
    k_BKTD: jax.Array,
    v_BKTD: jax.Array,
    seen: jax.Array,
    cap: float | None,
) -> tuple[jax.Array, ...]:
    """Return maximum, sum and mix with more columns; those not `seen` have no weight.

    Args:
      carry: of the columns so far.
      q_BKMD: scaled queries.
      k_BKTD: keys of the columns.
      v_BKTD: values of the columns.
      seen: bool, as [B, K, M, T] or what becomes that.
      cap: of the scores; None is none.
    """
    top, total, mixed = carry
    scores = capped(batched_matmul(q_BKMD, k_BKTD, contract=3), cap)
    scores = jnp.where(seen, scores, NEG_INF)
    # The result does not depend on what is subtracted, so nothing passes through it. A
    # token may see no column of the blocks so far, and exp(-inf - -inf) is no number.
    new = lax.stop_gradient(jnp.maximum(top, jnp.max(scores, axis=-1, keepdims=True)))
    finite = jnp.where(new > NEG_INF, new, 0.0)
    weights = jnp.exp(scores - finite)
    kept = jnp.exp(top - finite)
    total = total * kept + jnp.sum(weights, axis=-1, keepdims=True)
    return new, total, mixed * kept + batched_matmul(weights, v_BKTD, contract=2)
