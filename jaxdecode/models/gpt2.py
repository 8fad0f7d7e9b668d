"""GPT-2: layer norms, learned positions, a plain MLP, biases everywhere.

Generation is no business of this file.

Reference: Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
"""

import jax
from flax import nnx

from jaxdecode.cache import KVCache, SharedCache
from jaxdecode.models.attention import Attention, Place, empty_cache, place
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.layers import (
    Embedding,
    LayerNorm,
    Linear,
    activation,
    project,
    take_column,
)


class GPT2(nnx.Module):
    """A GPT-2 language model with the `Model` protocol.

    Args:
      config: sizes and switches, of family "gpt2".
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
        self.embedding = Embedding(vocab, width, dtype=dtype, rngs=rngs)
        self.positions = Embedding(config.max_length, width, dtype=dtype, rngs=rngs)
        self.layers = nnx.List(
            [GPT2Block(config, i, dtype, rngs) for i in range(config.num_layers)]
        )
        self.norm = LayerNorm(width, eps=config.norm_eps)
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
        x = self.embedding(tokens) + self.positions(positions)
        for block in self.layers:
            x, cache = block(x, where, cache)
        x = x if at is None else take_column(x, at)
        return project(x, self.norm, self.head or self.embedding)[0], cache


class GPT2Block(nnx.Module):
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
        self.attention_norm = LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config, layer, dtype, rngs)
        self.mlp_norm = LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config, dtype, rngs)

    def __call__(
        self, x: jax.Array, where: Place, cache: KVCache
    ) -> tuple[jax.Array, KVCache]:
        gathered, cache = self.attention(x, self.attention_norm, where, cache)
        x = x + gathered
        return x + self.mlp(self.mlp_norm(x)), cache


class MLP(nnx.Module):
    """`down(act(up(x)))`.

    Args:
      config: sizes and switches.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(self, config: ModelConfig, dtype: str, rngs: nnx.Rngs | None):
        width, hidden = config.width, config.mlp_width
        self.up = Linear(width, hidden, bias=True, dtype=dtype, rngs=rngs)
        self.down = Linear(hidden, width, bias=True, dtype=dtype, rngs=rngs)
        self.activation = config.activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(activation(self.activation)(self.up(x)))
