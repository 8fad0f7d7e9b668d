"""bfloat16 numbers seen as uint16 words, and back, without touching a bit.

XLA's CPU backend has no bfloat16 gather, scatter or in-place update: it converts the
whole buffer to float32 and back to move one row. Integer words of the same width are
moved as they are. Gradients do not pass through integers; they are refused aloud here,
since JAX itself would take them for zero.
"""

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_jvp
def to_bits(values: jax.Array) -> jax.Array:
    """Return the words of bfloat16 `values` as uint16, same shape.

    Args:
      values: bfloat16, any shape.

    Returns:
      uint16 of the same shape, equal bit for bit.

    Raises:
      TypeError: when differentiated with respect to `values`.
    """
    return lax.bitcast_convert_type(values, jnp.uint16)


@to_bits.defjvp
def _refuse_gradient(primals, tangents):
    raise TypeError(
        "to_bits: gradients do not pass through a cache of words; differentiate "
        "`model.on(platform.with_slopes())` (or `score`, or `generate(loop='scan')`)."
    )


def from_bits(words: jax.Array) -> jax.Array:
    """Return the bfloat16 numbers whose words are `words`, the inverse of `to_bits`."""
    return lax.bitcast_convert_type(words, jnp.bfloat16)
