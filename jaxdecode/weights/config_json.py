"""A Hugging Face `config.json` as a config, read by the record of its architecture.

An option that changes the numbers and is not implemented is refused by its name. Code
that a repository brings along is never run.
"""

from collections.abc import Mapping
from typing import Any

from jaxdecode.core.check import short
from jaxdecode.core.refusing import refusing
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.families import CheckpointError, Family, Format
from jaxdecode.models.families.catalog import architectures

# Options that change the numbers, with the values that do not. A family may read one of
# them (`Format.reads`).
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "compression_config": (None,),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "num_local_experts": (None, 0, 1),
    "num_experts": (None, 0, 1),
    "partial_rotary_factor": (None, 1.0),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "logits_scaling": (None, 1.0),
    "embedding_multiplier": (None, 1.0),
    "residual_multiplier": (None, 1.0),
    "attention_multiplier": (None,),
    "attention_chunk_size": (None,),
    "query_pre_attn_scalar": (None,),
    "use_bidirectional_attention": (None, False),
    "no_rope_layers": (None, []),
    "qk_layernorm": (None, False),
    "use_parallel_residual": (None, False),
}


def find_format(raw: Mapping[str, Any]) -> tuple[Family, Format[Mapping[str, Any]]]:
    """Return the family of a model and how folders of its architecture are read.

    Args:
      raw: the parsed config.json.

    Raises:
      CheckpointError: for an architecture that is not supported, or none.
    """
    known = [(family, a.name, a.folder) for family, a in architectures() if a.folder]
    names = raw.get("architectures")
    if not names:
        for family, name, folder in known:
            if raw.get("model_type") == name:
                return family, folder
        raise CheckpointError("config.json names no architecture.")
    label = names[0] if isinstance(names, list) and len(names) == 1 else short(names)
    for family, _, folder in known:
        if label == folder.label:
            return family, folder
    code = ""
    if raw.get("auto_map"):
        code = " The code it brings along (auto_map) is never run."
    labels = ", ".join(folder.label for _, _, folder in known)
    raise CheckpointError(f"architecture must be one of {labels}, got {label}.{code}")


def read_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Map the options of a `config.json` onto a config.

    Args:
      raw: the parsed file.

    Returns:
      The sizes and switches of the model.

    Raises:
      CheckpointError: for an unknown architecture, an option that is not supported, a
        missing option or a value out of range.
    """
    family, folder = find_format(raw)
    for name, neutral in NEUTRAL.items():
        if name not in folder.reads and raw.get(name) not in neutral:
            raise CheckpointError(
                f"option `{name}` = {short(raw[name])} is not supported."
            )
    with refusing(CheckpointError, "config.json"):
        return family.config(family=family.name, **folder.read(raw))
