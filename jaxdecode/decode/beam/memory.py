"""What the model remembers of the beams, and how it follows them to new parents.

Two kinds with the same meaning. `Whole` works for any model: a cache with one row per
beam, gathered along the parents after each step. `Shared` asks the model to keep each
prompt once for all its beams; following the parents then moves no keys or values.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import pytree
from jaxdecode.decode.prefill import prefill
from jaxdecode.decode.prompts import Prompts

KINDS = ("auto", "shared", "whole")


@runtime_checkable
class SharesPrompts(Protocol):
    """An optional extension of `Model`: beams that share their prompt's cache.

    Attributes:
      shares_prompts: whether this model can.
    """

    shares_prompts: bool

    def share_prompts(
        self, cache: Any, lengths: jax.Array, *, beams: int, columns: int
    ) -> Any:
        """Return a cache for `beams` continuations of each prompt.

        Args:
          cache: what reading the prompts left, rows [B].
          lengths: int32 [B], the prompts' lengths.
          beams: continuations per prompt, K. Static.
          columns: tokens that will be read after the prompt. Static.

        Returns:
          A pytree with a method `follow(parents)`, int32 [B, K], which is called
          before each step's token is read: beam k then continues what beam
          `parents[b, k]` held. The model takes it in the place of a cache, with
          tokens [B * K, 1].
        """
        ...


@pytree
class Whole:
    """A cache with a row for every beam.

    Attributes:
      cache: leaves [B * K, ...].
    """

    cache: Any

    def follow(self, parents: jax.Array) -> "Whole":
        """Gather every row of the cache from its parent, [B, K]."""
        count, beams = parents.shape
        start = jnp.arange(count, dtype=jnp.int32)[:, None] * beams
        rows = (start + parents).reshape(-1)
        return Whole(jax.tree.map(lambda leaf: leaf[rows], self.cache))


@pytree
class Shared:
    """A cache that the model shares among the beams of a prompt.

    Attributes:
      cache: what `share_prompts` returned.
    """

    cache: Any

    def follow(self, parents: jax.Array) -> "Shared":
        """Let every beam continue its parent, [B, K]."""
        return Shared(self.cache.follow(parents))


def can_share(model: Any) -> bool:
    """Say whether a model offers to share prompts."""
    return isinstance(model, SharesPrompts) and bool(model.shares_prompts)


def read_prompts(
    model: Model, prompts: Prompts, *, beams: int, columns: int, kind: str
) -> tuple[jax.Array, Whole | Shared]:
    """Read each prompt once.

    Args:
      model: the model.
      prompts: the prompts, B of them.
      beams: beams per prompt. Static.
      columns: tokens that will be read after the prompt, at least 1. Static.
      kind: one of `KINDS`. Static.

    Returns:
      float32 logits [B, V] of the first token, and the memory of all beams.
    """
    count, width = prompts.tokens.shape
    shares = kind != "whole" and can_share(model)
    length = width if shares else min(width + columns, model.max_length)
    logits, cache = prefill(model, prompts, model.init_cache(count, length))
    if shares:
        lengths = jnp.asarray(prompts.lengths)
        return logits, Shared(
            model.share_prompts(cache, lengths, beams=beams, columns=columns)  # type: ignore[attr-defined]
        )
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, beams, axis=0), cache)
    return logits, Whole(repeated)
