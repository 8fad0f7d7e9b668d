"""The module of the Granite architecture: a llama with four factors.

Their config is `families.granite.GraniteConfig`.
"""

from typing import Any

import jax
from flax import nnx

from jaxdecode.models.llama import Llama, LlamaBlock


class GraniteBlock(LlamaBlock):
    """A block that adds less than it computes.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(self, config: Any, layer: int, dtype: str, rngs: nnx.Rngs | None):
        super().__init__(config, layer, dtype, rngs)
        self.factor = config.residual_factor

    def __call__(
        self, x: jax.Array, where: Any, cache: Any, layer: Any
    ) -> tuple[jax.Array, Any]:
        attended, cache = self.attention(x, self.attention_norm, where, cache, layer)
        x = x + attended * self.factor
        return x + self.mlp(x, self.mlp_norm) * self.factor, cache


class Granite(Llama):
    """A Granite language model with the `Model` protocol."""

    block = GraniteBlock
    config: Any

    def finish(self, logits: jax.Array) -> jax.Array:
        """Return the divided logits."""
        return logits / self.config.logit_divisor
