"""The Granite architecture: a llama with four factors.

Embeddings, what a block adds, and scores are multiplied by constants; logits are divided
by one.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.gguf_keys import GGUFKeys
from jaxdecode.models.families.record import Architecture, Family, Format
from jaxdecode.models.fields import positive

if TYPE_CHECKING:
    from jaxdecode.models.granite import Granite

FACTORS = {
    "embedding_multiplier": "embedding_factor",
    "residual_multiplier": "residual_factor",
    "attention_multiplier": "score_factor",
    "logits_scaling": "logit_divisor",
}
TRAITS = dataclasses.replace(
    LLAMA_TRAITS,
    name="granite",
    switches=(*LLAMA_TRAITS.switches, *FACTORS.values()),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraniteConfig(ModelConfig):
    """Sizes and switches of a Granite model.

    Args:
      embedding_factor: what the vectors of tokens are multiplied by, > 0.
      residual_factor: what attention and MLP add is multiplied by it, > 0.
      score_factor: what scores are multiplied by, > 0.
      logit_divisor: what logits are divided by, > 0.
    """

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "granite"
    embedding_factor: float = 1.0
    residual_factor: float = 1.0
    score_factor: float = 1.0
    logit_divisor: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        positive(self, *FACTORS.values())

    def score_scale(self, layer: int) -> float:
        """Return what the scores of a layer are multiplied by."""
        return self.score_factor

    @property
    def embedding_scale(self) -> float:
        """What the vectors of tokens are multiplied by."""
        return self.embedding_factor


def module() -> "type[Granite]":
    """Return the nnx module, imported here because Flax comes with it."""
    from jaxdecode.models.granite import Granite

    return Granite


VARIANT = kind.Variant(attention_bias=True, mlp_bias=True, kv_heads_default=True)


def from_json(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config from the options of a config.json."""
    factors = {ours: raw.get(theirs, 1.0) for theirs, ours in FACTORS.items()}
    return kind.from_json(VARIANT, raw) | factors


KEYS = {
    "embedding_scale": "embedding_factor",
    "residual_scale": "residual_factor",
    "logit_scale": "logit_divisor",
}


def from_gguf(keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a config from the metadata of a GGUF file.

    A factor of 0 stands for none, as in llama.cpp.
    """
    read = kind.from_gguf(VARIANT, keys)
    read |= {ours: keys(theirs, 0.0) or 1.0 for theirs, ours in KEYS.items()}
    plain = 1.0 / math.sqrt(max(read["head_dim"], 1))
    return read | {"score_factor": keys("attention.scale", 0.0) or plain}


GRANITE = Family(
    traits=TRAITS,
    config=GraniteConfig,
    module=module,
    architectures=(
        Architecture(
            name="granite",
            folder=Format(
                label="GraniteForCausalLM",
                read=from_json,
                tensors=kind.FOLDER,
                reads=tuple(FACTORS),
            ),
            gguf=Format(
                label="granite",
                read=from_gguf,
                tensors=kind.PAIRED_GGUF,
                reads=("attention.scale", *KEYS),
            ),
        ),
    ),
)
