"""Attention of one token per row in one CUDA kernel: rotated, written, scored, mixed.

For a row and a key head, whose G query heads are rows of one product:

    q, k = rotated(q) * scale, rotated(k)
    keys[own], values[own] = k, v
    top, total, mixed = q @ k, 1, v
    for block in the blocks of the columns before the own, from the first in sight:
        scores = q @ keys[block].T, capped, -inf where hidden
        new = max(top, max(scores))
        total = total * exp(top - new) + sum(exp(scores - new))
        mixed = mixed * exp(top - new) + exp(scores - new) @ values[block]
        top = new
    return mixed / total

XLA makes seven kernels of it. No column that a row does not see is read. A row and a key
head is one group of threads, so it is for short rows; long ones need more threads.

Written in Pallas, JAX's language for kernels, whose interpreter runs it on a CPU, too.
Its slope is that of the steps one by one.

Shape suffixes: P parts to be summed, B rows, T columns, N heads of a token (queries,
keys, values), H query heads, K key and value heads, G = H / K query heads of a group,
D head size.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxdecode.core.numerics import NEG_INF
from jaxdecode.core.soft_cap import capped

ROWS = 16  # fewest of a product in the tensor cores
COLUMNS = 128  # of a block


def attend_and_write(
    heads_PBND: jax.Array,
    cos: jax.Array,
    sin: jax.Array,
    k_BKTD: jax.Array,
    v_BKTD: jax.Array,
    positions: jax.Array,
    *,
    scale: float,
    window: int | None,
    cap: float | None,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Write the new columns, and return what the queries read, and the cache.

    Args:
      heads_PBND: float32, the heads of queries, keys and values, in this order, as
        parts to be summed, a power of two of them.
      cos: float32 [B, D / 2], of the angles that the halves are rotated by.
      sin: float32 [B, D / 2].
      k_BKTD: bfloat16.
      v_BKTD: bfloat16.
      positions: int32 [B], columns of the new tokens; beyond T nothing is written.
      scale: what scores are multiplied by.
      window: how many columns a token sees, its own included; None is all.
      cap: scores s become `cap * tanh(s / cap)`; None leaves them as they are.
      interpret: whether JAX runs the kernel step by step, on any platform.

    Returns:
      bfloat16 [B, H, D], and the cache's arrays with the columns in.
    """
    p, b, n, d = heads_PBND.shape
    kv, t = k_BKTD.shape[1:3]
    h = n - 2 * kv

    def of_row(*axes: int) -> pl.BlockSpec:
        rest = (0,) * len(axes)
        return pl.BlockSpec((None, *axes), lambda b, _: (b, *rest))

    def of_head(*axes: int) -> pl.BlockSpec:
        rest = (0,) * len(axes)
        return pl.BlockSpec((None, None, *axes), lambda b, k: (b, k, *rest))

    facts = {"group": h // kv, "heads": kv, "scale": scale}
    mixed, keys, values = pl.pallas_call(
        functools.partial(_kernel, **facts, window=window, cap=cap),
        grid=(b, kv),
        in_specs=[
            pl.BlockSpec((p, None, n, d), lambda b, _: (0, b, 0, 0)),
            of_row(d // 2),
            of_row(d // 2),
            of_head(t, d),
            of_head(t, d),
            of_row(),
        ],
        out_specs=[of_head(h // kv, d), of_head(t, d), of_head(t, d)],
        out_shape=[
            jax.ShapeDtypeStruct((b, kv, h // kv, d), k_BKTD.dtype),
            jax.ShapeDtypeStruct(k_BKTD.shape, k_BKTD.dtype),
            jax.ShapeDtypeStruct(v_BKTD.shape, v_BKTD.dtype),
        ],
        input_output_aliases={3: 1, 4: 2},
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="attend_and_write",
    )(heads_PBND, cos, sin, k_BKTD, v_BKTD, positions)
    return mixed.reshape(b, h, d), keys, values


def _kernel(
    heads_ref: Any,
    cos_ref: Any,
    sin_ref: Any,
    k_ref: Any,
    v_ref: Any,
    own_ref: Any,
    mixed_ref: Any,
    k_out_ref: Any,
    v_out_ref: Any,
    *,
    group: int,
    heads: int,
    scale: float,
    window: int | None,
    cap: float | None,
) -> None:
    (columns, size), numbers = k_ref.shape, k_ref.dtype
    rows, kv, own = max(ROWS, pl.next_power_of_2(group)), pl.program_id(1), own_ref[...]
    halves = pl.ds(0, size // 2), pl.ds(size // 2, size // 2)
    real = jnp.arange(rows) < group
    turn = cos_ref[...], sin_ref[...]

    q = _rotated(_heads(heads_ref, pl.ds(kv * group, rows), real, halves), *turn)
    q = [(half * scale).astype(numbers) for half in q]
    key = group * heads + kv
    new_k = _rotated(_head(heads_ref, key, halves), *turn)
    new_k = [half.astype(numbers) for half in new_k]
    new_v = [half.astype(numbers) for half in _head(heads_ref, key + heads, halves)]

    last = jnp.minimum(own, columns)

    def visit(index, carry):
        block = pl.ds(index * COLUMNS, COLUMNS)
        column = index * COLUMNS + jnp.arange(COLUMNS)
        seen = column < last
        if window is not None:
            seen &= column > own - window
        k, v = (
            [_loaded(ref, block, half, there=seen) for half in halves]
            for ref in (k_ref, v_ref)
        )
        return _visited(carry, q, k, v, seen, cap)

    first = 0 if window is None else jnp.maximum(own - window + 1, 0) // COLUMNS
    start = _own_column(q, new_k, new_v, cap)
    _, total, mixed = lax.fori_loop(first, pl.cdiv(last, COLUMNS), visit, start)

    # Nobody reads this column here, so that there is no order to keep.
    at = pl.ds(jnp.minimum(own, columns - 1), 1)
    fits = jnp.full((1, size // 2), own < columns)
    real = jnp.broadcast_to(real[:, None], (rows, size // 2))
    for i, half in enumerate(halves):
        result = (mixed[i] / total[:, None]).astype(mixed_ref.dtype)
        triton.store(mixed_ref.at[pl.ds(0, rows), half], result, mask=real)
        triton.store(k_out_ref.at[at, half], new_k[i][None, :], mask=fits)
        triton.store(v_out_ref.at[at, half], new_v[i][None, :], mask=fits)


def _loaded(ref: Any, *where: Any, there: jax.Array) -> jax.Array:
    """Return half of the numbers of heads, zeros for those that are not `there`."""
    mask = jnp.broadcast_to(there[..., None], (*there.shape, where[-1].size))
    return triton.load(ref.at[where], mask=mask, other=0.0)


def _heads(ref: Any, which: Any, real: jax.Array, halves: Any) -> list[jax.Array]:
    """Return heads, halves of [rows, D / 2], their parts summed; zeros if not `real`."""
    parts = ref.shape[0]
    there = jnp.broadcast_to(real[None, :], (parts, *real.shape))
    loaded = [_loaded(ref, pl.ds(0, parts), which, x, there=there) for x in halves]
    return [jnp.sum(half, axis=0) for half in loaded]


def _head(ref: Any, which: jax.Array, halves: Any) -> list[jax.Array]:
    """Return a head, halves of [D / 2], its parts summed."""
    return [jnp.sum(ref[:, which, half], axis=0) for half in halves]


def _rotated(halves: list[jax.Array], cos: jax.Array, sin: jax.Array):
    """Return the halves of heads turned by the angles of their numbers."""
    left, right = halves
    if left.ndim == 2:
        cos, sin = cos[None, :], sin[None, :]
    return left * cos - right * sin, right * cos + left * sin


def _own_column(q: Any, k: Any, v: Any, cap: float | None) -> Any:
    """Return maximum, sum and mix with the token's own column, which it always sees."""
    products = [
        jnp.sum(a.astype(jnp.float32) * b[None, :].astype(jnp.float32), axis=1)
        for a, b in zip(q, k, strict=True)
    ]
    alone = [
        jnp.broadcast_to(half[None, :], (q[0].shape[0], *half.shape)) for half in v
    ]
    mixed = [half.astype(jnp.float32) for half in alone]
    return capped(products[0] + products[1], cap), jnp.ones_like(products[0]), mixed


def _visited(carry: Any, q: Any, k: Any, v: Any, seen: Any, cap: float | None) -> Any:
    """Return maximum, sum and mix with a block; columns not `seen` have no weight."""
    top, total, mixed = carry
    products = [pl.dot(a, b, trans_b=True) for a, b in zip(q, k, strict=True)]
    scores = capped(products[0] + products[1], cap)
    scores = jnp.where(seen[None, :], scores, NEG_INF)
    # The maximum is finite from the own column on.
    new = jnp.maximum(top, jnp.max(scores, axis=1))
    weights, kept = jnp.exp(scores - new[:, None]), jnp.exp(top - new)
    total = total * kept + jnp.sum(weights, axis=1)
    weights = weights.astype(k[0].dtype)
    mixed = [
        old * kept[:, None] + pl.dot(weights, half)
        for old, half in zip(mixed, v, strict=True)
    ]
    return new, total, mixed
