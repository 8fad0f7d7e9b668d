"""The OLMo 2 architecture: norms behind attention and MLP instead of before them.

Queries and keys are normalised as a whole, not per head.

Reference: OLMo Team, 2 OLMo 2 Furious, 2025, arXiv 2501.00656.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
from flax import nnx

from jaxdecode.models.attention import Attention
from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.record import Architecture, Family, Format
from jaxdecode.models.layers import RMSNorm
from jaxdecode.models.llama import GatedMLP, Llama

# Nothing stands between a block's input and its products that could take up a factor.
TRAITS = dataclasses.replace(
    LLAMA_TRAITS, name="olmo2", switches=("rope_scaling",), can_balance=False
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Olmo2Config(ModelConfig):
    """Sizes and switches of an OLMo 2 model."""

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "olmo2"


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


def module() -> type[Olmo2]:
    """Return the nnx module."""
    return Olmo2


FOLDER = dataclasses.replace(
    kind.FOLDER,
    names={
        **kind.FOLDER.names,
        "attention_out_norm": "post_attention_layernorm",
        "mlp_out_norm": "post_feedforward_layernorm",
    },
)
GGUF = dataclasses.replace(
    kind.GGUF,
    names={
        **kind.GGUF.names,
        "attention_out_norm": "post_attention_norm",
        "mlp_out_norm": "post_ffw_norm",
    },
)
VARIANT = kind.Variant(attention_bias=True, kv_heads_default=True, eps=1e-5)
OLMO2 = Family(
    traits=TRAITS,
    config=Olmo2Config,
    module=module,
    architectures=(
        Architecture(
            name="olmo2",
            folder=Format(
                label="Olmo2ForCausalLM",
                read=functools.partial(kind.from_json, VARIANT),
                tensors=FOLDER,
            ),
            gguf=Format(
                label="olmo2",
                read=functools.partial(kind.from_gguf, VARIANT),
                tensors=GGUF,
            ),
        ),
    ),
)
