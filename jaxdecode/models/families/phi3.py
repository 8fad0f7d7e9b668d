"""The Phi-3 architecture: a llama whose products are stored together.

q, k and v are one tensor, gate and up another one. Longer texts have rotary frequencies
of their own (`RopeScaling` "longrope"), and a part of a head may stay unrotated.

Reference: Abdin et al., Phi-3 Technical Report, 2024, arXiv 2404.14219.
"""

import dataclasses
import functools
from typing import ClassVar

from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.record import Architecture, Family, Format
from jaxdecode.models.families.storage import fused_rows
from jaxdecode.models.llama import Llama

TRAITS = dataclasses.replace(
    LLAMA_TRAITS, name="phi3", switches=(*LLAMA_TRAITS.switches, "rotary_size")
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phi3Config(ModelConfig):
    """Sizes and switches of a Phi-3 model."""

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "phi3"


FOLDER = dataclasses.replace(
    kind.FOLDER,
    names={
        **kind.FOLDER.names,
        "attention.q": "self_attn.qkv_proj",
        "attention.k": "self_attn.qkv_proj",
        "attention.v": "self_attn.qkv_proj",
        "mlp.gate": "mlp.gate_up_proj",
        "mlp.up": "mlp.gate_up_proj",
    },
    rule=fused_rows,
)
GGUF = dataclasses.replace(
    kind.GGUF,
    names={
        **kind.GGUF.names,
        "attention.q": "attn_qkv",
        "attention.k": "attn_qkv",
        "attention.v": "attn_qkv",
        "mlp.gate": "ffn_up",
    },
    rule=fused_rows,
)
VARIANT = kind.Variant(
    kv_heads_default=True,
    eps=1e-5,
    ropes={"su": "longrope", "yarn": "longrope"},  # what old versions called it
    window=kind.window_if_given,
    gguf_window=True,
    gguf_part=True,
)
PHI3 = Family(
    traits=TRAITS,
    config=Phi3Config,
    module=Llama,
    architectures=(
        Architecture(
            name="phi3",
            folder=Format(
                label="Phi3ForCausalLM",
                read=functools.partial(kind.from_json, VARIANT),
                tensors=FOLDER,
                reads=("partial_rotary_factor",),
            ),
            gguf=Format(
                label="phi3",
                read=functools.partial(kind.from_gguf, VARIANT),
                tensors=GGUF,
            ),
        ),
    ),
)
