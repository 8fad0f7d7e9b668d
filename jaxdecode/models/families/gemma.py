"""The Gemma family, second and third generation: its record and its module.

A llama with norms before and after, which are stored as what they differ from 1, scaled
embeddings, and layers with a window between layers without. Gemma 2 caps scores and
logits softly; Gemma 3 normalises queries and keys and has a rotary base of its own for
layers with the window.

References: Gemma Team, Gemma 2, 2024, arXiv 2408.00118; Gemma 3, 2025, arXiv 2503.19786.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import nnx

from jaxdecode.core.soft_cap import capped
from jaxdecode.models.config import LLAMA_TRAITS, LayerKind, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.errors import CheckpointError
from jaxdecode.models.families.gguf_keys import GGUFKeys, layers_of
from jaxdecode.models.families.json_options import layer_count
from jaxdecode.models.families.record import Architecture, Family, Format
from jaxdecode.models.families.rope_options import longest, read_scaling, rope_group
from jaxdecode.models.families.storage import plus_one
from jaxdecode.models.fields import positive
from jaxdecode.models.layers import RMSNorm
from jaxdecode.models.llama import Llama, LlamaBlock

TRAITS = dataclasses.replace(
    LLAMA_TRAITS,
    name="gemma",
    activations=("gelu_pytorch_tanh", "gelu_new", "gelu", "silu"),
    switches=(*LLAMA_TRAITS.switches, "query_scalar", "score_cap", "logit_cap"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GemmaConfig(ModelConfig):
    """Sizes and switches of a Gemma model.

    Args:
      query_scalar: scores are divided by its square root, > 0; None is the head size.
      score_cap: the soft limit of scores, > 0, or None.
      logit_cap: the soft limit of logits, > 0, or None.
    """

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "gemma"
    query_scalar: float | None = None
    score_cap: float | None = None
    logit_cap: float | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("query_scalar", "score_cap", "logit_cap"):
            if getattr(self, name) is not None:
                positive(self, name)

    def layer_kind(self, layer: int) -> LayerKind:
        """Return how the attention of `layer` looks at positions."""
        return dataclasses.replace(super().layer_kind(layer), score_cap=self.score_cap)

    def score_scale(self, layer: int) -> float:
        """Return what the scores of a layer are multiplied by."""
        return 1.0 / math.sqrt(self.query_scalar or self.head_size)

    @property
    def embedding_scale(self) -> float:
        """What the vectors of tokens are multiplied by."""
        return math.sqrt(self.width)


class GemmaBlock(LlamaBlock):
    """A block that also normalises what attention and MLP add.

    Args:
      config: sizes and switches.
      layer: index of the block.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self, config: ModelConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ):
        super().__init__(config, layer, dtype, rngs)
        self.attention_out_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.mlp_out_norm = RMSNorm(config.width, eps=config.norm_eps)

    def __call__(
        self, x: jax.Array, where: Any, cache: Any, layer: Any
    ) -> tuple[jax.Array, Any]:
        attended, cache = self.attention(x, self.attention_norm, where, cache, layer)
        x = x + self.attention_out_norm(attended)
        return x + self.mlp_out_norm(self.mlp(x, self.mlp_norm)), cache


class Gemma(Llama):
    """A Gemma language model with the `Model` protocol."""

    block = GemmaBlock

    def finish(self, logits: jax.Array) -> jax.Array:
        """Return the logits under their soft limit."""
        assert isinstance(self.config, GemmaConfig)
        return capped(logits, self.config.logit_cap)


def module() -> type[Gemma]:
    """Return the nnx module."""
    return Gemma


NAMES = {
    "attention_out_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_out_norm": "post_feedforward_layernorm",
}
FOLDER = dataclasses.replace(
    kind.FOLDER, names={**kind.FOLDER.names, **NAMES}, rule=plus_one
)
GGUF = dataclasses.replace(  # norms are stored as they are used
    kind.GGUF,
    names={
        **kind.GGUF.names,
        "attention_out_norm": "post_attention_norm",
        "mlp_out_norm": "post_ffw_norm",
    },
)
# Defaults of transformers where the key is absent.
QUERY_SCALAR, WINDOW = 256, 4096
LOCAL_THETA, GLOBAL_THETA = 10000.0, 1000000.0
CAPS = ("attn_logit_softcapping", "final_logit_softcapping")


def alternating(
    default: int, raw: Mapping[str, Any], types: list[str] | None
) -> kind.Window:
    """Every layer has the window but one of `sliding_window_pattern`, the last."""
    if types is None:
        pattern = raw.get("sliding_window_pattern", default)
        if type(pattern) is not int or pattern < 1:
            raise CheckpointError(
                "config.json: `sliding_window_pattern` must be a whole number >= 1."
            )
        count = layer_count(raw, "num_hidden_layers")
        types = [kind.LAYER_TYPES[(i + 1) % pattern > 0] for i in range(count)]
    return kind.on_sliding_layers(raw.get("sliding_window", WINDOW), types)


SHARED = kind.Variant(
    attention_bias=True,
    head_dim=256,
    tied=True,
    activation_key="hidden_activation",
    activation="gelu_pytorch_tanh",
    window=functools.partial(alternating, 2),
    gguf_window=True,
)
GEMMA3 = dataclasses.replace(
    SHARED, qk_norm=True, window=functools.partial(alternating, 6)
)


def from_json_2(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Gemma 2 from the options of a config.json."""
    return kind.from_json(SHARED, raw) | {
        "query_scalar": raw.get("query_pre_attn_scalar", QUERY_SCALAR),
        "score_cap": raw.get("attn_logit_softcapping", 50.0),
        "logit_cap": raw.get("final_logit_softcapping", 30.0),
    }


def from_json_3(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Gemma 3 from the options of a config.json."""
    name, rope = rope_group(raw)
    wide, narrow = rope.get("full_attention"), rope.get("sliding_attention")
    if name == "rope_scaling" or not (wide or narrow):  # one scaling, two bases
        wide = rope | {"rope_theta": raw.get("rope_theta", GLOBAL_THETA)}
        narrow = {"rope_theta": raw.get("rope_local_base_freq", LOCAL_THETA)}
    wide, narrow = _group(name, wide), _group(name, narrow)
    if read_scaling(raw, f"{name}.sliding_attention", narrow, {}) is not None:
        raise CheckpointError(
            f"option `{name}.sliding_attention` with a scaling is not supported."
        )
    scaling = read_scaling(raw, f"{name}.full_attention", wide, {})
    plain = {
        k: v for k, v in raw.items() if k not in ("rope_parameters", "rope_scaling")
    }
    return kind.from_json(GEMMA3, plain) | {
        "max_length": longest(raw, scaling),
        "rope_theta": wide.get("rope_theta", GLOBAL_THETA),
        "rope_scaling": scaling,
        "sliding_rope_theta": narrow.get("rope_theta", LOCAL_THETA),
        "query_scalar": raw.get("query_pre_attn_scalar", QUERY_SCALAR),
        "logit_cap": raw.get("final_logit_softcapping"),
    }


# Files do not say which layers have the window, nor the largest models' scale of scores:
# llama.cpp knows both by the generation and the number of layers.
PATTERNS = {"gemma2": 2, "gemma3": 6}
LARGEST = {"gemma2": 46, "gemma3": 62}


def from_gguf(variant: kind.Variant, keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a Gemma from the metadata of a GGUF file."""
    count, pattern = layers_of(keys), PATTERNS[keys.arch]
    keys.must_be("attention.sliding_window_pattern", (pattern,))
    read = kind.from_gguf(variant, keys)
    types = [kind.LAYER_TYPES[(i + 1) % pattern > 0] for i in range(count)]
    window, layers = kind.on_sliding_layers(read["sliding_window"], types)
    read |= {"sliding_window": window, "sliding_layers": layers}
    if count == LARGEST[keys.arch]:
        read["query_scalar"] = read["width"] / read["num_heads"]
    read["logit_cap"] = keys("final_logit_softcapping", None)
    if keys.arch == "gemma2":
        return read | {"score_cap": keys("attn_logit_softcapping", None)}
    theta = keys("rope.freq_base", GLOBAL_THETA)
    local = keys("rope.freq_base_swa", LOCAL_THETA)
    # A model all of whose texts fit into the window has both bases all the same.
    if window is None:
        window = keys("attention.sliding_window", keys("context_length"))
        _, layers = kind.on_sliding_layers(window, types)
    return read | {
        "sliding_window": window,
        "sliding_layers": layers,
        "rope_theta": theta,
        "sliding_rope_theta": local,
    }


def _group(name: str, group: Any) -> dict[str, Any]:
    if group is None:
        return {}
    if not isinstance(group, dict):
        raise CheckpointError(f"config.json: `{name}` must hold objects by layer type.")
    return group


GEMMA = Family(
    traits=TRAITS,
    config=GemmaConfig,
    module=module,
    architectures=(
        Architecture(
            name="gemma2",
            folder=Format(
                label="Gemma2ForCausalLM",
                read=from_json_2,
                tensors=FOLDER,
                reads=(*CAPS, "query_pre_attn_scalar"),
            ),
            gguf=Format(
                label="gemma2",
                read=functools.partial(from_gguf, SHARED),
                tensors=GGUF,
            ),
        ),
        Architecture(
            name="gemma3_text",
            folder=Format(
                label="Gemma3ForCausalLM",
                read=from_json_3,
                tensors=FOLDER,
                reads=(CAPS[1], "query_pre_attn_scalar"),
            ),
            gguf=Format(
                label="gemma3",
                read=functools.partial(from_gguf, GEMMA3),
                tensors=GGUF,
            ),
        ),
    ),
)
