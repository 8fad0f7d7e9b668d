"""The module of the Gemma family: a llama with norms before and after.

Its config is `families.gemma.GemmaConfig`.
"""

from typing import Any

import jax
from flax import nnx

from jaxdecode.core.soft_cap import capped
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.layers import RMSNorm
from jaxdecode.models.llama import Llama, LlamaBlock


class GemmaBlock(LlamaBlock):
    """A block that also normalises what attention and MLP add.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self, config: ModelConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ):
        super().__init__(config, layer, dtype, rngs)
        self.attention_out_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.mlp_out_norm = RMSNorm(config.width, eps=config.norm_eps)

    def __call__(
        self, x: jax.Array, where: Any, cache: Any, layer: Any
    ) -> tuple[jax.Array, Any]:
        attended, cache = self.attention(x, self.attention_norm, where, cache, layer)
        x = x + self.attention_out_norm(attended)
        return x + self.mlp_out_norm(self.mlp(x, self.mlp_norm)), cache


class Gemma(Llama):
    """A Gemma language model with the `Model` protocol."""

    block = GemmaBlock
    config: Any

    def finish(self, logits: jax.Array) -> jax.Array:
        """Return the logits under their soft limit."""
        return capped(logits, self.config.logit_cap)
