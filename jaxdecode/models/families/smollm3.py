"""The SmolLM3 architecture: a llama some of whose layers know no positions.

Reference: Yang et al., Rope to Nope and Back Again, 2025, arXiv 2501.18795.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxdecode.models import fields
from jaxdecode.models.config import LLAMA_TRAITS, LayerKind, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.errors import CheckpointError
from jaxdecode.models.families.gguf_keys import GGUFKeys, layers_of
from jaxdecode.models.families.json_options import layer_count
from jaxdecode.models.families.record import Architecture, Family, Format

TRAITS = dataclasses.replace(
    LLAMA_TRAITS, name="smollm3", switches=(*LLAMA_TRAITS.switches, "unrotated_layers")
)
INTERVAL = 4  # default of transformers where the key is absent


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmolLM3Config(ModelConfig):
    """Sizes and switches of a SmolLM3 model.

    Args:
      unrotated_layers: indices of the layers without rotary positions.
    """

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "smollm3"
    unrotated_layers: tuple[int, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        fields.layers(self, "unrotated_layers", self.num_layers)

    def layer_kind(self, layer: int) -> LayerKind:
        """Return how the attention of `layer` looks at positions."""
        if layer in self.unrotated_layers:
            return LayerKind(self.window(layer), None, None)
        return super().layer_kind(layer)

    def lone_layer(self, layer: int) -> ModelConfig:
        """Return the config of a model that has this one layer."""
        alone = dataclasses.replace(self, unrotated_layers=())
        unrotated = (0,) if layer in self.unrotated_layers else ()
        alone = super(SmolLM3Config, alone).lone_layer(layer)
        return dataclasses.replace(alone, unrotated_layers=unrotated)


def window_if_switched_on(
    raw: Mapping[str, Any], types: list[str] | None
) -> kind.Window:
    """Layers of the sliding type have the window, else those without positions."""
    if not raw.get("use_sliding_window", False):
        return None, None
    if types is None:
        count = layer_count(raw, "num_hidden_layers")
        unrotated = _unrotated(raw)
        types = [kind.LAYER_TYPES[i in unrotated] for i in range(count)]
    return kind.on_sliding_layers(raw.get("sliding_window"), types)


VARIANT = kind.Variant(
    attention_bias=True,
    mlp_bias=True,
    tied=True,
    rope_theta=2000000.0,
    window=window_if_switched_on,
)


def from_json(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config from the options of a config.json."""
    return kind.from_json(VARIANT, raw) | {"unrotated_layers": _unrotated(raw)}


def _unrotated(raw: Mapping[str, Any]) -> tuple[int, ...]:
    count = layer_count(raw, "num_hidden_layers")
    marks = raw.get("no_rope_layers")
    if marks is None:
        every = raw.get("no_rope_layer_interval", INTERVAL)
        if type(every) is not int or every < 1:
            raise CheckpointError(
                "config.json: `no_rope_layer_interval` must be a whole number >= 1."
            )
        return tuple(range(every - 1, count, every))
    if not isinstance(marks, list) or len(marks) < count:
        raise CheckpointError(
            f"config.json: `no_rope_layers` must be a list of {count} marks."
        )
    return tuple(i for i, is_rotated in enumerate(marks[:count]) if not is_rotated)


def from_gguf(keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a config from the metadata of a GGUF file.

    It does not say which layers know no positions: every fourth.
    """
    unrotated = tuple(range(INTERVAL - 1, layers_of(keys), INTERVAL))
    return kind.from_gguf(VARIANT, keys) | {"unrotated_layers": unrotated}


SMOLLM3 = Family(
    traits=TRAITS,
    config=SmolLM3Config,
    module=kind.module,
    architectures=(
        Architecture(
            name="smollm3",
            folder=Format(
                label="SmolLM3ForCausalLM",
                read=from_json,
                tensors=kind.FOLDER,
                reads=("no_rope_layers",),
            ),
            gguf=Format(label="smollm3", read=from_gguf, tensors=kind.PAIRED_GGUF),
        ),
    ),
)
