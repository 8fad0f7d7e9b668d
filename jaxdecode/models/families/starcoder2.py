"""The StarCoder2 architecture: rotary positions with layer norms and a plain MLP.

Reference: Lozhkov et al., StarCoder 2 and The Stack v2, 2024, arXiv 2402.19173.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.record import Architecture, Family, Format

if TYPE_CHECKING:
    from jaxdecode.models.starcoder2 import Starcoder2

TRAITS = dataclasses.replace(
    LLAMA_TRAITS,
    name="starcoder2",
    activations=("gelu_pytorch_tanh", "gelu_new", "gelu", "relu", "silu"),
    switches=("sliding_window", "rope_scaling"),
    can_balance=False,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Starcoder2Config(ModelConfig):
    """Sizes and switches of a StarCoder2 model."""

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "starcoder2"


def module() -> "type[Starcoder2]":
    """Return the nnx module, imported here because Flax comes with it."""
    from jaxdecode.models.starcoder2 import Starcoder2

    return Starcoder2


FOLDER = dataclasses.replace(
    kind.FOLDER,
    names={**kind.FOLDER.names, "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"},
)
VARIANT = kind.Variant(
    kv_heads_default=False,
    tied=True,
    eps_key="norm_epsilon",
    eps=1e-5,
    activation="gelu_pytorch_tanh",
    window=kind.window_if_given,
    gguf_window=True,
    gguf_eps_key="attention.layer_norm_epsilon",
)


def from_json(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config from the options of a config.json."""
    names, has_bias = ("qkv_bias", "output_bias", "mlp_bias"), raw.get("use_bias", True)
    return kind.from_json(VARIANT, raw) | dict.fromkeys(names, has_bias)


STARCODER2 = Family(
    traits=TRAITS,
    config=Starcoder2Config,
    module=module,
    architectures=(
        Architecture(
            name="starcoder2",
            folder=Format(
                label="Starcoder2ForCausalLM", read=from_json, tensors=FOLDER
            ),
            gguf=Format(
                label="starcoder2",
                read=functools.partial(kind.from_gguf, VARIANT),
                tensors=kind.GGUF,
            ),
        ),
    ),
)
