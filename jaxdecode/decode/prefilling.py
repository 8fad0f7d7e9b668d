"""Reading prompts: in one call while they are short, in chunks of columns beyond that.

    for start in range(0, longest prompt, chunk):
        part, cache = model(tokens[:, start : start + chunk], ...)
        logits = part, in the rows whose last token was among these

What a call needs beside the cache grows with the number of tokens it reads, and what
attention needs also with the columns they look at; chunks put a bound on both. Knows
any `Model`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core import varying
from jaxdecode.core.platform import Platform, backend
from jaxdecode.core.protocol import Model, ReadsPrompts, logits_of
from jaxdecode.decode.prompts import Prompts


def prefill(
    model: Model,
    prompts: Prompts,
    cache: Any,
    *,
    platform: Platform | None = None,
    reversible: bool = False,
) -> tuple[jax.Array, Any]:
    """Read every prompt, and return the logits after its last token.

    Args:
      model: the model.
      prompts: the prompts, B of them. Columns after the longest one are read only as
        far as its chunk goes.
      cache: an empty cache of the model with at least as many columns as the prompts.
      platform: says how much is read at once; None is JAX's default backend. Static.
      reversible: whether the result can be differentiated in reverse; all columns are
        then read. Static.

    Returns:
      float32 logits [B, V], and the cache that holds the prompts. Rows whose length is
      not in [1, columns] get logits that mean nothing.
    """
    if isinstance(model, ReadsPrompts):
        return model.read_prompts(prompts, cache, reversible=reversible)
    tokens, lengths = jnp.asarray(prompts.tokens), jnp.asarray(prompts.lengths)
    count, width = tokens.shape
    chunk = columns_per_call(count, platform or backend())
    if width <= chunk:
        positions = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (count, width))
        return logits_of(model, tokens, positions, cache, at=lengths - 1)

    steps = jnp.arange(chunk, dtype=jnp.int32)

    def read(index, carry):
        logits, cache = carry
        # The last chunk begins earlier where it would reach beyond the columns: what
        # it reads twice comes out the same.
        start = jnp.minimum(index * chunk, width - chunk)
        part = jax.lax.dynamic_slice_in_dim(tokens, start, chunk, axis=1)
        positions = jnp.broadcast_to(start + steps, part.shape)
        at = lengths - 1 - start
        inside = jnp.clip(at, 0, chunk - 1)
        read_now, cache = logits_of(model, part, positions, cache, at=inside)
        return jnp.where((at == inside)[:, None], read_now, logits), cache

    if reversible:
        chunks = -(-width // chunk)
    else:
        longest = jnp.minimum(jnp.max(lengths), width)
        chunks = (longest + chunk - 1) // chunk
    nothing = jnp.zeros((count, model.vocab_size), jnp.float32)
    first = varying.settled(lambda carry: read(0, carry), (nothing, cache), prompts)
    return jax.lax.fori_loop(0, chunks, read, first)


def columns_per_call(rows: int, platform: Platform) -> int:
    """Return how many columns of `rows` prompts are read at a time, a power of two."""
    columns = max(1, platform.tokens_per_call // rows)
    rounded = 1 << columns.bit_length() - 1
    return min(platform.columns_per_call, max(16, rounded))
