"""Columns of rows [B, S, ...]: a model is asked for the logits of one column of each."""

import jax


def take_column(hidden: jax.Array, at: jax.Array) -> jax.Array:
    """Return column at[b] of each row of `hidden` [B, S, W]: [B, W]."""
    if hidden.shape[1] == 1:
        return hidden[:, 0]
    return jax.vmap(lambda row, i: row[i])(hidden, at)
