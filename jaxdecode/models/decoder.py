"""What every family has: an embedding, blocks, a last norm, a head, and a cache.

A family says how its blocks are made and how tokens become vectors; the rest is here.
Generation is no business of this file.
"""

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.cache import KVCache, SharedCache, StackedCache
from jaxdecode.core.platform import Platform
from jaxdecode.models.attention import empty_cache, place
from jaxdecode.models.blocks import run_blocks
from jaxdecode.models.columns import take_column
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.layers import (
    Embedding,
    LayerNorm,
    Linear,
    RMSNorm,
    project,
)
from jaxdecode.native import current_platform


class Decoder(nnx.Module):
    """A language model with the `Model` protocol; a subclass names its parts.

    Args:
      config: sizes and switches.
      dtype: "float32" or "bfloat16", the type of weights and cache.
      rngs: where initial weights come from; None for shapes without weights.

    Attributes:
      block: class of the blocks, made from (config, layer, dtype, rngs) and called as
        `run_blocks` says.
      last_norm: class of the last norm, made from (width, eps=...).
    """

    block: ClassVar[Callable[..., Any]]
    last_norm: ClassVar[type[RMSNorm] | type[LayerNorm]]
    keeps_protocol = True

    def __init__(
        self, config: ModelConfig, *, dtype: str = "float32", rngs: nnx.Rngs | None
    ):
        width, vocab = config.width, config.vocab_size
        self.config = config
        self.dtype = dtype
        self.platform: Platform | None = None  # this process's
        self.vocab_size = vocab
        self.max_length = config.max_length
        balanced = config.can_balance and config.tied_output
        self.embedding = Embedding(
            vocab, width, dtype=dtype, rngs=rngs, balanced=balanced
        )
        make = type(self).block
        self.layers = nnx.List(
            [make(config, layer, dtype, rngs) for layer in range(config.num_layers)]
        )
        self.norm = type(self).last_norm(width, eps=config.norm_eps)
        self.head = (
            None
            if config.tied_output
            else Linear(width, vocab, bias=False, dtype=dtype, rngs=rngs)
        )

    def on(self, platform: Platform) -> "Decoder":
        """Return the same model, to be used in programs for `platform`."""
        other = copy.copy(self)  # taking it apart would cost more than tracing it
        # Not by assignment, which nnx refuses where another trace made `self`.
        vars(other)["platform"] = platform
        return other

    def embed(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """Return the vectors that the first block reads, float32 [B, S, W]."""
        del positions
        found = self.embedding(tokens)
        scale = self.config.embedding_scale
        return found if scale == 1.0 else found * scale

    def init_cache(self, rows: int, length: int) -> KVCache | StackedCache:
        """Return an empty cache for `rows` sequences of up to `length` tokens."""
        return empty_cache(
            self.config,
            rows,
            length,
            self.dtype,
            platform=self._platform,
            in_kernels=self.embedding.matrix.in_kernels,
        )

    @property
    def ignores_unused_columns(self) -> bool:
        """Whether unused columns take no time and change no bit: with the kernels."""
        cache = jax.eval_shape(lambda: self.init_cache(1, 1))
        return isinstance(cache, StackedCache)

    def share_prompts(
        self,
        cache: KVCache | StackedCache,
        lengths: jax.Array,
        *,
        beams: int,
        columns: int,
    ) -> SharedCache:
        """Return a cache for `beams` continuations of each prompt that was read."""
        return SharedCache.of(cache, lengths, beams=beams, columns=columns)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Any,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""
        where, cache = self._place(positions, cache)
        x = self.embed(tokens, positions)
        x, cache = run_blocks(self.layers, x, where, cache)
        return self._logits(x, at), cache

    def layer_logits(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Any,
        *,
        layers: tuple[int, ...],
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array, Any]:
        """Read tokens, and apply the head to the output of earlier blocks as well.

        Args:
          tokens: as in a call.
          positions: as in a call.
          cache: as in a call.
          layers: after how many blocks each, from 0 (the embedding) to one less than
            there are. Static.
          at: as in a call.

        Returns:
          The logits and the cache of a call, and in between the earlier logits, float32
          [len(layers), ...], each through the last norm.

        Raises:
          ValueError: for a layer that the model lacks.
        """
        for layer in layers:
            if not 0 <= layer < len(self.layers):
                raise ValueError(
                    f"layer_logits: `layers` must be in [0, {len(self.layers) - 1}], "
                    f"got {layer}."
                )
        where, cache = self._place(positions, cache)
        outputs = [self.embed(tokens, positions)]
        for layer, block in enumerate(self.layers):
            x, cache = block(outputs[-1], where, cache, layer)
            outputs.append(x)
        early = jnp.stack([self._logits(outputs[layer], at) for layer in layers])
        return self._logits(outputs[-1], at), early, cache

    @property
    def _platform(self) -> Platform:
        return self.platform or current_platform()

    def _place(self, positions: jax.Array, cache: Any) -> tuple[Any, Any]:
        return place(positions, cache, self.config, platform=self._platform)

    def _logits(self, x: jax.Array, at: jax.Array | None) -> jax.Array:
        x = x if at is None else take_column(x, at)
        return self.finish(project(x, self.norm, self.head or self.embedding)[0])

    def finish(self, logits: jax.Array) -> jax.Array:
        """Return what the model says, given what its output map says."""
        return logits
