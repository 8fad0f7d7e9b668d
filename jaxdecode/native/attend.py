"""Attention of one new token per row by the kernel: only live columns are read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

HEAD_MULTIPLE = 32  # numbers of a head that the kernel takes at once


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def attend_one(q_BHD, keys, values, positions, window, twin):
    """Return what one token per row gathers from the columns up to its own.

    Args:
      q_BHD: float32 queries, scaled; D a multiple of 32.
      keys: float32, or uint16 words of bfloat16, [B, K, T, D].
      values: the same.
      positions: int32 [B], each row's column.
      window: how many columns back a token sees; None for all. Static.
      twin: the same in plain JAX, `twin(q_BHD, keys, values, positions)`, for slopes.
        Static.

    Returns:
      float32 [B, H, D]; a row's bits depend on nothing but its own live columns.
    """
    del twin
    result = jax.ShapeDtypeStruct(q_BHD.shape, jnp.float32)
    call = jax.ffi.ffi_call("jaxdecode_attend", result, vmap_method="expand_dims")
    return call(q_BHD, keys, values, positions, window=np.int64(window or 0))


@attend_one.defjvp
def _attend_one_jvp(window, twin, primals, tangents):
    result = attend_one(*primals, window, twin)
    return result, jax.jvp(twin, primals, tangents)[1]
