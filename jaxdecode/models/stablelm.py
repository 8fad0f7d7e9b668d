"""The module of the StableLM architecture: a llama with layer norms.

Its config is `families.stablelm.StableLMConfig`.
"""

from typing import Any

import jax
from flax import nnx

from jaxdecode.models.layers import LayerNorm
from jaxdecode.models.llama import Llama, LlamaBlock


class StableLMBlock(LlamaBlock):
    """A block with layer norms: attention, then the MLP, or both at once.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    norm_class = LayerNorm

    def __init__(self, config: Any, layer: int, dtype: str, rngs: nnx.Rngs | None):
        super().__init__(config, layer, dtype, rngs)
        self.is_parallel = config.is_parallel
        if config.is_parallel:
            del self.mlp_norm

    def __call__(
        self, x: jax.Array, where: Any, cache: Any, layer: Any
    ) -> tuple[jax.Array, Any]:
        if not self.is_parallel:
            return super().__call__(x, where, cache, layer)
        attended, cache = self.attention(x, self.attention_norm, where, cache, layer)
        return x + attended + self.mlp(x, self.attention_norm), cache


class StableLM(Llama):
    """A StableLM language model with the `Model` protocol."""

    block = StableLMBlock
    last_norm = LayerNorm
