"""The StableLM architecture: layer norms, a gated MLP, heads rotated in part.

Attention and MLP may both read the first norm, side by side.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.gguf_keys import GGUFKeys
from jaxdecode.models.families.record import Architecture, Family, Format

if TYPE_CHECKING:
    from jaxdecode.models.stablelm import StableLM

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


def module() -> "type[StableLM]":
    """Return the nnx module, imported here because Flax comes with it."""
    from jaxdecode.models.stablelm import StableLM

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
