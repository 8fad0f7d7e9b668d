"""The llama family: RMS norms, rotary positions, a gated MLP.

One definition for llama, SmolLM2, Mistral, Qwen2 and Qwen3; `ModelConfig` says which
switches each of them sets. Generation is no business of this file.

Reference: Touvron et al., LLaMA, 2023, arXiv 2302.13971.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.cache import KVCache, SharedCache
from jaxdecode.models.attention import Attention, Place, empty_cache, place
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.layers import (
    Embedding,
    Linear,
    RMSNorm,
    activation,
    project,
    take_column,
)


class Llama(nnx.Module):
    """A llama-family language model with the `Model` protocol.

    Args:
      config: sizes and switches, of family "llama".
      dtype: "float32" or "bfloat16", the type of weights and cache.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self, config: ModelConfig, *, dtype: str = "float32", rngs: nnx.Rngs | None
    ):
        width, vocab = config.width, config.vocab_size
        self.config = config
        self.dtype = dtype
        self.vocab_size = vocab
        self.max_length = config.max_length
        self.embedding = Embedding(
            vocab, width, dtype=dtype, rngs=rngs, balanced=config.tied_output
        )
        self.layers = nnx.List(
            [LlamaBlock(config, i, dtype, rngs) for i in range(config.num_layers)]
        )
        self.norm = RMSNorm(width, eps=config.norm_eps)
        self.head = (
            None
            if config.tied_output
            else Linear(width, vocab, bias=False, dtype=dtype, rngs=rngs)
        )

    def init_cache(self, rows: int, length: int) -> KVCache:
        """Return an empty cache for `rows` sequences of up to `length` tokens."""
        return empty_cache(self.config, rows, length, self.dtype)

    def share_prompts(
        self, cache: KVCache, lengths: jax.Array, *, beams: int, columns: int
    ) -> SharedCache:
        """Return a cache for `beams` continuations of each prompt that was read."""
        return SharedCache.of(cache, lengths, beams=beams, columns=columns)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: KVCache,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""
        where, cache = place(
            positions, cache, self.config, native=self.embedding.stored.is_native
        )
        x = self.embedding(tokens)
        for block in self.layers:
            x, cache = block(x, where, cache)
        return self._logits(x, at), cache

    def layer_logits(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: KVCache,
        *,
        layers: tuple[int, ...],
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array, KVCache]:
        """Read tokens, and hear what the head would say behind earlier blocks.

        Args:
          tokens: as in a call.
          positions: as in a call.
          cache: as in a call.
          layers: behind how many blocks to listen, each from 0 (the embedding) to one
            less than there are. Static.
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
        where, cache = place(
            positions, cache, self.config, native=self.embedding.stored.is_native
        )
        behind = [self.embedding(tokens)]
        for block in self.layers:
            x, cache = block(behind[-1], where, cache)
            behind.append(x)
        early = jnp.stack([self._logits(behind[layer], at) for layer in layers])
        return self._logits(behind[-1], at), early, cache

    def _logits(self, x: jax.Array, at: jax.Array | None) -> jax.Array:
        x = x if at is None else take_column(x, at)
        return project(x, self.norm, self.head or self.embedding)[0]


class LlamaBlock(nnx.Module):
    """Attention, then the MLP, each on a normalised copy and added back.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self, config: ModelConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ):
        self.attention_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config, layer, dtype, rngs)
        self.mlp_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = GatedMLP(config, dtype, rngs)

    def __call__(
        self, x: jax.Array, where: Place, cache: KVCache
    ) -> tuple[jax.Array, KVCache]:
        gathered, cache = self.attention(x, self.attention_norm, where, cache)
        x = x + gathered
        return x + self.mlp(x, self.mlp_norm), cache


class GatedMLP(nnx.Module):
    """`down(act(gate(n)) * up(n))` of `n = norm(x)`.

    Args:
      config: sizes and switches.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.

    Reference: Shazeer, GLU Variants Improve Transformer, 2020, arXiv 2002.05202.
    """

    def __init__(self, config: ModelConfig, dtype: str, rngs: nnx.Rngs | None):
        width, hidden, bias = config.width, config.mlp_width, config.mlp_bias
        self.gate = Linear(width, hidden, bias=bias, dtype=dtype, rngs=rngs)
        self.up = Linear(width, hidden, bias=bias, dtype=dtype, rngs=rngs)
        self.down = Linear(hidden, width, bias=bias, dtype=dtype, rngs=rngs)
        self.activation = config.activation

    def __call__(self, x: jax.Array, norm: RMSNorm) -> jax.Array:
        return self.down(self.hidden(x, norm))

    def hidden(self, x: jax.Array, norm: RMSNorm) -> jax.Array:
        """Return what `down` is given, [..., mlp_width]."""
        gate, up = project(x, norm, self.gate, self.up)
        return activation(self.activation)(gate) * up
