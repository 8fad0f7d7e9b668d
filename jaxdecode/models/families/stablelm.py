"""The StableLM architecture: layer norms, a gated MLP, heads rotated in part.

Attention and MLP may both read the first norm, side by side.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import nnx

from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.gguf_keys import GGUFKeys
from jaxdecode.models.families.record import Architecture, Family, Format
from jaxdecode.models.layers import LayerNorm
from jaxdecode.models.llama import Llama, LlamaBlock

TRAITS = dataclasses.replace(
    LLAMA_TRAITS,
    name="stablelm",
    switches=("rope_scaling", "rotary_size", "is_parallel"),
    can_balance=False,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableLMConfig(ModelConfig):
    """Sizes and switches of a StableLM model.

    Args:
      is_parallel: whether attention and MLP read the same normalised copy.
    """

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "stablelm"
    is_parallel: bool = False


class StableLMBlock(LlamaBlock):
    """A block with layer norms: attention, then the MLP, or both at once.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    norm_class = LayerNorm

    def __init__(
        self, config: StableLMConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ):
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


def module() -> type[StableLM]:
    """Return the nnx module."""
    return StableLM


VARIANT = kind.Variant(
    kv_heads_default=False,
    rotary_part=0.25,
    eps_key="layer_norm_eps",
    eps=1e-5,
    gguf_eps_key="attention.layer_norm_epsilon",
    gguf_part=True,
)


def from_json(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config from the options of a config.json."""
    return kind.from_json(VARIANT, raw) | {
        "qkv_bias": raw.get("use_qkv_bias", False),
        "is_parallel": raw.get("use_parallel_residual", False),
    }


def from_gguf(keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a config from the metadata of a GGUF file."""
    # One norm for attention and MLP, whatever the key says.
    is_parallel = not keys.has("blk.0.ffn_norm.weight")
    return kind.from_gguf(VARIANT, keys) | {"is_parallel": is_parallel}


STABLELM = Family(
    traits=TRAITS,
    config=StableLMConfig,
    module=module,
    architectures=(
        Architecture(
            name="stablelm",
            folder=Format(
                label="StableLmForCausalLM",
                read=from_json,
                tensors=kind.FOLDER,
                reads=("partial_rotary_factor", "use_parallel_residual"),
            ),
            gguf=Format(label="stablelm", read=from_gguf, tensors=kind.GGUF),
        ),
    ),
)
