"""GPT-2: layer norms, learned positions, a plain MLP, biases everywhere.

Generation is no business of this file.

Reference: Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
"""

from typing import Any

import jax
from flax import nnx

from jaxdecode.models.attention import Attention
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.decoder import Decoder
from jaxdecode.models.layers import (
    Embedding,
    LayerNorm,
    Linear,
    activation,
    project_onto,
)


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
        self, x: jax.Array, where: Any, cache: Any, layer: Any
    ) -> tuple[jax.Array, Any]:
        attended, cache = self.attention(x, self.attention_norm, where, cache, layer)
        x = x + attended
        return x + self.mlp(x, self.mlp_norm), cache


class MLP(nnx.Module):
    """`down(act(up(n)))` of `n = norm(x)`.

    Args:
      config: sizes and switches.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(self, config: ModelConfig, dtype: str, rngs: nnx.Rngs | None):
        width, hidden = config.width, config.mlp_width
        bias = config.has_biases or config.mlp_bias
        self.up = Linear(width, hidden, bias=bias, dtype=dtype, rngs=rngs)
        self.down = Linear(hidden, width, bias=bias, dtype=dtype, rngs=rngs)
        self.activation = config.activation

    def __call__(
        self, x: jax.Array, norm: LayerNorm, onto: jax.Array | None = None
    ) -> jax.Array:
        hidden = activation(self.activation)(self.up(norm(x)))
        return project_onto(onto, hidden, None, self.down)


class GPT2(Decoder):
    """A GPT-2 language model with the `Model` protocol.

    Args:
      config: sizes and switches, of family "gpt2".
      dtype: "float32" or "bfloat16", the type of weights and cache.
      rngs: where initial weights come from; None for shapes without weights.
    """

    block = GPT2Block
    last_norm = LayerNorm

    def __init__(
        self, config: ModelConfig, *, dtype: str = "float32", rngs: nnx.Rngs | None
    ):
        super().__init__(config, dtype=dtype, rngs=rngs)
        length, width = config.max_length, config.width
        self.positions = Embedding(length, width, dtype=dtype, rngs=rngs)

    def embed(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """Return the vectors of the tokens plus those of their positions."""
        return self.embedding(tokens) + self.positions(positions)
