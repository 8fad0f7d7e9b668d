"""Attention over a cache by the kernel, for one token of a row or for many.

Tokens of a row share the reading of keys and values, and nothing else: a token's bits
depend on its own columns, not on the batch, on how many tokens are read at once, nor on
how long the cache is.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.varying import vary_alike, vary_like

HEAD_MULTIPLE = 32  # numbers of a head that the kernel takes at once


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6))
def attend_columns(q_BSHD, keys, values, positions, layer, window, twin):
    """Return what tokens gather from the columns up to their own.

    Args:
      q_BSHD: float32 queries, scaled; D a multiple of 32.
      keys: float32, or uint16 words of bfloat16, [B, L, K, T, D].
      values: the same.
      positions: int32 [B, S], each token's column.
      layer: int32 (), which of the L layers is read.
      window: how many columns back a token sees; None for all. Static.
      twin: the same in plain JAX, `twin(q_BSHD, keys, values, positions, layer)`, for
        slopes. Static.

    Returns:
      float32 [B, S, H, D].
    """
    del twin
    result = jax.ShapeDtypeStruct(q_BSHD.shape, jnp.float32)
    call = jax.ffi.ffi_call("jaxdecode_attend", result, vmap_method="expand_dims")
    # The kernel counts items by the leading axes, here [B, S]; those of 1 broadcast.
    keys, values = keys[:, None], values[:, None]
    window = np.int64(window or 0)
    given = vary_alike(q_BSHD, keys, values, positions, layer)
    return vary_like(call(*given, window=window), given)


@attend_columns.defjvp
def _attend_columns_jvp(window, twin, primals, tangents):
    result = attend_columns(*primals, window, twin)
    return result, jax.jvp(twin, primals, tangents)[1]
