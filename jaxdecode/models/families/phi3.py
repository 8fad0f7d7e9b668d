"""The Phi-3 architecture: a llama whose products are stored together.

q, k and v are one tensor, gate and up another one. Longer texts have rotary frequencies
of their own (`RopeScaling` "longrope"), and a part of a head may stay unrotated.

Reference: Abdin et al., Phi-3 Technical Report, 2024, arXiv 2404.14219.
"""

import dataclasses
import functools
import re
from typing import Any, ClassVar

from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.errors import CheckpointError
from jaxdecode.models.families.gguf_keys import GGUFKeys
from jaxdecode.models.families.record import Architecture, Family, Format
from jaxdecode.models.families.storage import fused_rows
from jaxdecode.models.rope_scaling import RopeScaling

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
    ignored=re.compile(r"rope_factors_(short|long)\.weight"),  # become `rope_scaling`
)


def gguf_scaling(keys: GGUFKeys) -> RopeScaling | None:
    """Return the scaling of a GGUF file; its divisors are two tensors."""
    names = [f"rope_factors_{size}.weight" for size in ("short", "long")]
    if not any(map(keys.has, names)):
        return kind.linear_scaling(keys)
    if not all(map(keys.has, names)):
        raise CheckpointError(f"there must be both {names[0]} and {names[1]}.")
    short, long = (tuple(keys.file.read(name).reshape(-1).tolist()) for name in names)
    trained = keys("rope.scaling.original_context_length")
    return RopeScaling(
        "longrope",
        max(keys("context_length") / max(trained, 1), 1.0),
        original_max_length=trained,
        amplitude=keys("rope.scaling.attn_factor", 1.0),
        short_factors=short,
        long_factors=long,
    )


def from_gguf(keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a config from the metadata of a GGUF file.

    A longrope model is loaded for texts of its first training, as from a folder.
    """
    read = kind.from_gguf(VARIANT, keys)
    scaling = read["rope_scaling"]
    if scaling is not None and scaling.kind == "longrope":
        read["max_length"] = min(read["max_length"], scaling.original_max_length)
    return read


VARIANT = kind.Variant(
    kv_heads_default=True,
    eps=1e-5,
    ropes={"su": "longrope", "yarn": "longrope"},  # what old versions called it
    window=kind.window_if_given,
    gguf_window=True,
    gguf_part=True,
    gguf_scaling=gguf_scaling,
)
PHI3 = Family(
    traits=TRAITS,
    config=Phi3Config,
    module=kind.module,
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
                read=from_gguf,
                tensors=GGUF,
            ),
        ),
    ),
)
