"""The llama family: RMS norms, rotary positions, a gated MLP.

One definition for llama, SmolLM2, Mistral, Qwen2 and Qwen3; `ModelConfig` says which
switches each of them sets. Generation is no business of this file.

Reference: Touvron et al., LLaMA, 2023, arXiv 2302.13971.
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.models.attention import Attention
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.decoder import Decoder
from jaxdecode.models.layers import (
    Gate,
    LayerNorm,
    Linear,
    RMSNorm,
    are_joined,
    project,
    project_onto,
)

# Most rows that a gated MLP reads at once where its matrices are joined: twice as many as
# hide what reading the weights takes (v5e: 197e12 operations and 819e9 bytes a second).
ROWS_WHOLE = 512


class LlamaBlock(nnx.Module):
    """Attention, then the MLP, each on a normalised copy and added back.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.

    Attributes:
      norm_class: class of the norms, made from (width, eps=...).
    """

    norm_class: ClassVar[type[RMSNorm] | type[LayerNorm]] = RMSNorm

    def __init__(
        self, config: ModelConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ):
        norm = type(self).norm_class
        self.attention_norm = norm(config.width, eps=config.norm_eps)
        self.attention = Attention(config, layer, dtype, rngs)
        self.mlp_norm = norm(config.width, eps=config.norm_eps)
        self.mlp = self.make_mlp(config, layer, dtype, rngs)

    def make_mlp(
        self, config: ModelConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ) -> Any:
        """Return the block's MLP, called as `mlp(x, norm, onto)`: `onto` is added."""
        del layer
        return GatedMLP(config, dtype, rngs)

    def __call__(
        self, x: jax.Array, where: Any, cache: Any, layer: Any
    ) -> tuple[jax.Array, Any]:
        norm = self.attention_norm
        x, cache = self.attention(x, norm, where, cache, layer, onto=x)
        return self.mlp(x, self.mlp_norm, x), cache


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

    def __call__(
        self,
        x: jax.Array,
        norm: RMSNorm | LayerNorm | None,
        onto: jax.Array | None = None,
    ) -> jax.Array:
        if not self._is_read_in_halves(x):
            return self._read(x, norm, onto)
        added = [None, None] if onto is None else jnp.array_split(onto, 2, -2)
        halves = zip(jnp.array_split(x, 2, -2), added, strict=True)
        return jnp.concatenate([self._read(half, norm, to) for half, to in halves], -2)

    def _read(self, x: jax.Array, norm: Any, onto: jax.Array | None) -> jax.Array:
        gate, up = project(x, norm, self.gate, self.up)
        return project_onto(onto, gate, Gate(self.activation, up), self.down)

    def _is_read_in_halves(self, x: jax.Array) -> bool:
        """Whether rows [..., S, I] are so many that both halves hide a matrix's reading.

        Joined, gate and up come as one float32 array, the largest that reading a prompt
        takes; half of the columns take half of it.
        """
        rows = math.prod(x.shape[:-1])
        return rows > ROWS_WHOLE and x.shape[-2] > 1 and are_joined(self.gate, self.up)


class Llama(Decoder):
    """A llama-family language model with the `Model` protocol.

    Args:
      config: sizes and switches, of family "llama" or one of its kind.
      dtype: "float32" or "bfloat16", the type of weights and cache.
      rngs: where initial weights come from; None for shapes without weights.
    """

    block = LlamaBlock
    last_norm = RMSNorm
