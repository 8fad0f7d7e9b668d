"""A soft limit on the size of scores and logits."""

import jax
import jax.numpy as jnp


def capped(values: jax.Array, cap: float | None) -> jax.Array:
    """Return `cap * tanh(values / cap)`: alike near 0, and never beyond the cap.

    Args:
      values: float32, of any shape.
      cap: the limit, > 0; None leaves the values as they are.

    Reference: Gemma Team, Gemma 2, 2024, arXiv 2408.00118.
    """
    return values if cap is None else cap * jnp.tanh(values / cap)
