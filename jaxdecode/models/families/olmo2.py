"""The OLMo 2 architecture: norms behind attention and MLP instead of before them.

Queries and keys are normalised as a whole, not per head.

Reference: OLMo Team, 2 OLMo 2 Furious, 2025, arXiv 2501.00656.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, ClassVar

from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.record import Architecture, Family, Format

if TYPE_CHECKING:
    from jaxdecode.models.olmo2 import Olmo2

# Nothing stands between a block's input and its products that could take up a factor.
TRAITS = dataclasses.replace(
    LLAMA_TRAITS, name="olmo2", switches=("rope_scaling",), can_balance=False
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Olmo2Config(ModelConfig):
    """Sizes and switches of an OLMo 2 model."""

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "olmo2"


def module() -> "type[Olmo2]":
    """Return the nnx module, imported here because Flax comes with it."""
    from jaxdecode.models.olmo2 import Olmo2

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
