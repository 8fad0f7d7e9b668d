"""Attention to columns that are read at once: who sees which, and the two products.

Query heads that share a key head are folded into the rows of the product, so that the
cache is read once and never transposed or repeated. Scores and softmax are float32.

Shape suffixes: B rows, S new tokens, T columns, H query heads, K key and value heads,
G = H / K query heads of a group, M = G * S rows of a product, D head size.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxdecode.core.numerics import NEG_INF
from jaxdecode.core.soft_cap import capped
from jaxdecode.models.matrix import batched_matmul


def attend(
    q_BSHD: jax.Array,
    k_BKTD: jax.Array,
    v_BKTD: jax.Array,
    mask: jax.Array,
    cap: float | None = None,
) -> jax.Array:
    """Mix the values of the columns each token sees, by softmax of its scores.

    Args:
      q_BSHD: float32 queries, scaled.
      k_BKTD: keys, float32 or bfloat16.
      v_BKTD: values, the same type.
      mask: bool [B, 1, 1, S, T].
      cap: scores s become `cap * tanh(s / cap)`; None leaves them as they are.

    Returns:
      float32 [B, S, H, D].
    """
    b, s, h, d = q_BSHD.shape
    kv = k_BKTD.shape[1]
    q_BKGSD = jnp.moveaxis(q_BSHD.reshape(b, s, kv, h // kv, d), 1, 3)
    scores_BKMT = batched_matmul(q_BKGSD.reshape(b, kv, -1, d), k_BKTD, contract=3)
    scores = capped(scores_BKMT.reshape(b, kv, h // kv, s, -1), cap)
    scores = jnp.where(mask, scores, NEG_INF)
    # A token sees its own column, so the maximum is finite.
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed_BKMD = batched_matmul(weights.reshape(scores_BKMT.shape), v_BKTD, contract=2)
    mixed = mixed_BKMD.reshape(b, kv, h // kv, s, d) / total
    return jnp.moveaxis(mixed, 3, 1).reshape(b, s, h, d)


def visible(positions: jax.Array, columns: int, window: int | None) -> jax.Array:
    """Return bool [B, 1, 1, S, T]: columns up to a token's own, within its window."""
    own = positions[:, None, None, :, None]
    column = lax.broadcasted_iota(jnp.int32, (1, 1, 1, 1, columns), 4)
    mask = column <= own
    return mask if window is None else mask & (column > own - window)
