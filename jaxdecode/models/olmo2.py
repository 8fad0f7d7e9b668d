"""The module of the OLMo 2 architecture: norms behind attention and MLP."""

from typing import Any

import jax
from flax import nnx

from jaxdecode.models.attention import Attention
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.layers import RMSNorm
from jaxdecode.models.llama import GatedMLP, Llama


class Olmo2Attention(Attention):
    """Attention with queries and keys normalised before they are split into heads."""

    def make_norms(self, config: ModelConfig) -> tuple[RMSNorm, RMSNorm]:
        """Return what normalises all queries of a token, and all keys."""
        size, eps = config.head_size, config.norm_eps
        queries, keys = config.num_heads * size, config.kv_heads * size
        return RMSNorm(queries, eps=eps), RMSNorm(keys, eps=eps)

    def normalised(self, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Normalise queries and keys, then split them into heads."""
        assert self.q_norm is not None
        assert self.k_norm is not None
        return self.heads(self.q_norm(q)), self.heads(self.k_norm(k))


class Olmo2Block(nnx.Module):
    """Attention, then the MLP; what each makes is normalised and added.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self, config: ModelConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ):
        self.attention = Olmo2Attention(config, layer, dtype, rngs)
        self.attention_out_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = GatedMLP(config, dtype, rngs)
        self.mlp_out_norm = RMSNorm(config.width, eps=config.norm_eps)

    def __call__(
        self, x: jax.Array, where: Any, cache: Any, layer: Any
    ) -> tuple[jax.Array, Any]:
        attended, cache = self.attention(x, None, where, cache, layer)
        x = x + self.attention_out_norm(attended)
        return x + self.mlp_out_norm(self.mlp(x, None)), cache


class Olmo2(Llama):
    """An OLMo 2 language model with the `Model` protocol."""

    block = Olmo2Block
