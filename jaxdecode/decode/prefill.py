"""Reading prompts: in one call while they are short, in chunks of columns beyond that.

    for start in range(0, longest prompt, chunk):
        said, cache = model(tokens[:, start : start + chunk], ...)
        keep what was said of the rows whose last token was among these

What a call needs beside the cache grows with the number of tokens it reads, and what
attention needs also with the columns they look at; chunks put a bound on both. Knows
any `Model`.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode.core.protocol import Model
from jaxdecode.decode.prompts import Prompts

COLUMNS_MAX = 256  # of a call on CPU, where a longer one is no faster
TOKENS_MAX = 1024  # rows times columns of a call on CPU
ACCELERATOR = 8  # times as many where products must be large to be fast


@runtime_checkable
class ReadsPrompts(Protocol):
    """An optional extension of `Model`, for one to whom a prompt's end means something.

    Any other model is called several times for a long prompt and cannot tell which call
    is the last.
    """

    def read_prompts(
        self, prompts: Prompts, cache: Any, *, reversible: bool
    ) -> tuple[jax.Array, Any]:
        """Read whole prompts as `prefill` does, which leaves them to this method."""
        ...


def prefill(
    model: Model, prompts: Prompts, cache: Any, *, reversible: bool = False
) -> tuple[jax.Array, Any]:
    """Read every prompt, and return the logits behind its last token.

    Args:
      model: the model.
      prompts: the prompts, B of them. Columns behind the longest one are read only as
        far as its chunk goes.
      cache: an empty cache of the model with at least as many columns as the prompts.
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
    chunk = columns_per_call(count)
    if width <= chunk:
        positions = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (count, width))
        return model(tokens, positions, cache, at=lengths - 1)

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
        said, cache = model(part, positions, cache, at=inside)
        return jnp.where((at == inside)[:, None], said, logits), cache

    if reversible:
        chunks = -(-width // chunk)
    else:
        longest = jnp.minimum(jnp.max(lengths), width)
        chunks = (longest + chunk - 1) // chunk
    nothing = jnp.zeros((count, model.vocab_size), jnp.float32)
    return jax.lax.fori_loop(0, chunks, read, (nothing, cache))


def columns_per_call(rows: int) -> int:
    """Return how many columns of `rows` prompts are read at a time, a power of two."""
    more = 1 if jax.default_backend() == "cpu" else ACCELERATOR
    columns = max(1, TOKENS_MAX * more // rows)
    return min(COLUMNS_MAX * more, max(16, 1 << columns.bit_length() - 1))
