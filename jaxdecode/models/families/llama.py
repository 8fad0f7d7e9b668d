"""The llama family: its record, and what tells its architectures apart.

Llama (also SmolLM2), Mistral, Qwen2 and Qwen3 are one module with different switches.
A GGUF file of architecture "llama" has the rows of q and k paired for interleaved
rotation; Mistral models call themselves "llama" there.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, RopeScaling
from jaxdecode.models.families.errors import CheckpointError
from jaxdecode.models.families.gguf_keys import GGUFKeys, sizes
from jaxdecode.models.families.json_options import layer_count, need, number
from jaxdecode.models.families.record import Architecture, Family, Format, Naming
from jaxdecode.models.families.rope_options import Rope, longest, read_rope
from jaxdecode.models.families.storage import paired
from jaxdecode.models.rope import frequencies

if TYPE_CHECKING:
    from jaxdecode.models.llama import Llama

FOLDER = Naming(
    names={
        "embedding": "model.embed_tokens",
        "norm": "model.norm",
        "head": "lm_head",
        "attention_norm": "input_layernorm",
        "attention.q": "self_attn.q_proj",
        "attention.k": "self_attn.k_proj",
        "attention.v": "self_attn.v_proj",
        "attention.o": "self_attn.o_proj",
        "attention.q_norm": "self_attn.q_norm",
        "attention.k_norm": "self_attn.k_norm",
        "mlp_norm": "post_attention_layernorm",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    },
    blocks="model.layers",
    # Frequencies, which old versions of transformers stored.
    ignored=re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"),
)
ROPE_FACTORS = "rope_freqs.weight"
GGUF = Naming(
    names={
        "embedding": "token_embd",
        "norm": "output_norm",
        "head": "output",
        "attention_norm": "attn_norm",
        "attention.q": "attn_q",
        "attention.k": "attn_k",
        "attention.v": "attn_v",
        "attention.o": "attn_output",
        "attention.q_norm": "attn_q_norm",
        "attention.k_norm": "attn_k_norm",
        "mlp_norm": "ffn_norm",
        "mlp.gate": "ffn_gate",
        "mlp.up": "ffn_up",
        "mlp.down": "ffn_down",
    },
    blocks="blk",
    ignored=re.compile(re.escape(ROPE_FACTORS)),  # becomes `rope_scaling`
)
PAIRED_GGUF = dataclasses.replace(GGUF, rule=paired)

LAYER_TYPES = ("full_attention", "sliding_attention")
# Defaults of transformers where the key is absent; a window of null is no window.
QWEN_WINDOW_START = 28
MISTRAL_WINDOW = 4096

Window: TypeAlias = tuple[int | None, tuple[int, ...] | None]


def no_window(raw: Mapping[str, Any], types: list[str] | None) -> Window:
    """Every layer attends to all positions."""
    if types is not None and "sliding_attention" in types:
        raise CheckpointError("option `layer_types` with a window is not supported.")
    return None, None


def window_on_every_layer(raw: Mapping[str, Any], types: list[str] | None) -> Window:
    """Every layer has the window, unless layer types are given."""
    window = raw.get("sliding_window", MISTRAL_WINDOW)
    return on_sliding_layers(window, types) if types is not None else (window, None)


def window_if_given(raw: Mapping[str, Any], types: list[str] | None) -> Window:
    """Every layer has the window, if there is one."""
    return raw.get("sliding_window"), None


def window_on_late_layers(raw: Mapping[str, Any], types: list[str] | None) -> Window:
    """Layers from `max_window_layers` on have the window, if it is switched on."""
    if not raw.get("use_sliding_window", False):
        return None, None
    if types is None:
        first = raw.get("max_window_layers", QWEN_WINDOW_START)
        count = layer_count(raw, "num_hidden_layers")
        types = [LAYER_TYPES[i >= first] for i in range(count)]
    return on_sliding_layers(raw.get("sliding_window"), types)


def on_sliding_layers(window: int | None, types: list[str]) -> Window:
    """Return the window and the layers it holds for; (None, None) where there is none."""
    layers = tuple(i for i, t in enumerate(types) if t == "sliding_attention")
    return (None, None) if window is None or not layers else (window, layers)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What an architecture of the llama kind fixes, and which options it has.

    Attributes:
      qkv_bias: whether q, k and v always have biases.
      qk_norm: whether q and k are normalised per head.
      attention_bias: whether the option `attention_bias` exists.
      mlp_bias: whether the option `mlp_bias` exists.
      head_dim: default of `head_dim`; None is width / heads.
      kv_heads_default: whether a missing `num_key_value_heads` means as many as heads.
        Elsewhere transformers would fill in a constant of the class: better to ask.
      tied: default of `tie_word_embeddings`.
      rope_theta: default base of the rotary frequencies.
      rotary_part: default of `partial_rotary_factor`.
      ropes: other names of kinds of scaling.
      eps_key: the option that is added inside norms.
      eps: its default.
      activation_key: the option that names the activation.
      activation: its default.
      window: from the options and the checked layer types to the sliding window and its
        layers (None is all of them).
      gguf_window: whether a window in a GGUF file is one for every layer. Elsewhere the
        file does not say which layers have it.
      gguf_eps_key: the key of what is added inside norms in a GGUF file.
      gguf_part: whether a GGUF file may have heads that are rotated in part.
      gguf_scaling: reads the scaling of a GGUF file; None is `linear_scaling`.
    """

    qkv_bias: bool = False
    qk_norm: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    head_dim: int | None = None
    kv_heads_default: bool = False
    tied: bool = False
    rope_theta: float = 10000.0
    rotary_part: float = 1.0
    ropes: Mapping[str, str] = field(default_factory=dict)
    eps_key: str = "rms_norm_eps"
    eps: float = 1e-6
    activation_key: str = "hidden_act"
    activation: str = "silu"
    window: Callable[[Mapping[str, Any], list[str] | None], Window] = no_window
    gguf_window: bool = False
    gguf_eps_key: str = "attention.layer_norm_rms_epsilon"
    gguf_part: bool = False
    gguf_scaling: Callable[[GGUFKeys], RopeScaling | None] | None = None


def from_json(variant: Variant, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config from the options of a config.json.

    Raises:
      CheckpointError: for a missing option, or one that is not supported.
    """
    rope = read_rope(
        raw, theta=variant.rope_theta, part=variant.rotary_part, aliases=variant.ropes
    )
    head_dim = raw.get("head_dim") or variant.head_dim
    bias = raw.get("attention_bias", False) if variant.attention_bias else False
    kv_heads = raw.get("num_key_value_heads")
    if kv_heads is None and not variant.kv_heads_default:
        raise CheckpointError("config.json: `num_key_value_heads` is missing.")
    window, layers = variant.window(raw, layer_types(raw))
    return {
        "vocab_size": need(raw, "vocab_size"),
        "max_length": longest(raw, rope.scaling),
        "width": need(raw, "hidden_size"),
        "mlp_width": need(raw, "intermediate_size"),
        "num_layers": layer_count(raw, "num_hidden_layers"),
        "num_heads": need(raw, "num_attention_heads"),
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "norm_eps": raw.get(variant.eps_key, variant.eps),
        "activation": raw.get(variant.activation_key, variant.activation),
        "tied_output": raw.get("tie_word_embeddings", variant.tied),
        "qkv_bias": variant.qkv_bias or bias,
        "output_bias": bias,
        "mlp_bias": raw.get("mlp_bias", False) if variant.mlp_bias else False,
        "qk_norm": variant.qk_norm,
        "sliding_window": window,
        "sliding_layers": layers,
        "rope_theta": rope.theta,
        "rope_scaling": rope.scaling,
    } | _rotary_size(raw, rope, head_dim)


def _rotary_size(
    raw: Mapping[str, Any], rope: Rope, head_dim: Any
) -> dict[str, int | None]:
    if rope.part == 1.0:
        return {}
    if head_dim is None:
        width, heads = need(raw, "hidden_size"), need(raw, "num_attention_heads")
        head_dim = number("hidden_size", width) / max(
            number("num_attention_heads", heads), 1
        )
    return {"rotary_size": rope.size(int(number("head_dim", head_dim)))}


def layer_types(raw: Mapping[str, Any]) -> list[str] | None:
    """Return the kind of each layer that a config.json names, or None.

    Raises:
      CheckpointError: for anything but a list of `LAYER_TYPES`.
    """
    types = raw.get("layer_types")
    if types is None:
        return None
    if not isinstance(types, list) or any(t not in LAYER_TYPES for t in types):
        raise CheckpointError(f"option `layer_types` must be a list of {LAYER_TYPES}.")
    return types


def from_gguf(variant: Variant, keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a config from the metadata of a GGUF file.

    The tensors tell which biases there are.

    Raises:
      CheckpointError: for a missing key, or a value that is not supported.
      TypeError: for a size that is not a number.
    """
    common = sizes(keys)
    width, heads = common["width"], common["num_heads"]
    size = keys("attention.key_length", width // max(heads, 1))
    keys.must_be("attention.value_length", (size,))
    rotated = keys("rope.dimension_count", size)
    if not variant.gguf_part:
        keys.must_be("rope.dimension_count", (size,))
    options = (
        common
        | {
            "norm_eps": keys(variant.gguf_eps_key),
            "activation": variant.activation,
            "num_kv_heads": keys("attention.head_count_kv", heads),
            "head_dim": size,
            "qkv_bias": keys.has("blk.0.attn_q.bias"),
            "output_bias": keys.has("blk.0.attn_output.bias"),
            "mlp_bias": keys.has("blk.0.ffn_up.bias"),
            "qk_norm": variant.qk_norm,
            "sliding_window": _gguf_window(variant, keys),
            "rope_theta": keys("rope.freq_base", 10000.0),
            "rope_scaling": (variant.gguf_scaling or linear_scaling)(keys),
        }
        | ({} if rotated == size else {"rotary_size": rotated})
    )
    return options | {"rope_scaling": _scaling_of_factors(options, keys)}


def _gguf_window(variant: Variant, keys: GGUFKeys) -> int | None:
    window = keys("attention.sliding_window", None)
    if window is None or window == 0 or window >= keys("context_length"):
        return None
    if not variant.gguf_window:
        raise CheckpointError(
            f"metadata `{keys.arch}.attention.sliding_window` = {window} does not say "
            "for which layers, and is not supported."
        )
    return window


def linear_scaling(keys: GGUFKeys) -> RopeScaling | None:
    """Return the scaling that a GGUF file names, of which there is one kind.

    Raises:
      CheckpointError: for another kind.
    """
    kind = keys("rope.scaling.type", "none")
    factor = keys("rope.scaling.factor", keys("rope.scale_linear", 1.0))
    keys.must_be("rope.scaling.attn_factor", (1.0,))
    if kind not in ("none", "linear"):
        raise CheckpointError(
            f"metadata `{keys.arch}.rope.scaling.type` = {kind!r} is not supported."
        )
    # As llama.cpp does: a factor alone means linear; "none" switches it off.
    off = factor in (0.0, 1.0) or keys("rope.scaling.type", None) == "none"
    return None if off else RopeScaling("linear", factor)


def _scaling_of_factors(options: dict[str, Any], keys: GGUFKeys) -> RopeScaling | None:
    """Read a table of frequency divisors as the llama 3 scaling it was made from.

    The file keeps no parameters, only what each frequency is divided by. Every published
    model has the same cuts; only the stretch, the largest divisor, differs.
    """
    named = options["rope_scaling"]
    if not keys.has(ROPE_FACTORS):
        return named
    plain = ModelConfig(**options)
    shape = keys.file.tensors[ROPE_FACTORS].shape
    if shape != (plain.head_size // 2,) or not np.all(
        (factors := keys.file.read(ROPE_FACTORS)) >= 1.0
    ):
        raise CheckpointError(f"{ROPE_FACTORS} must be one divisor >= 1 per frequency.")
    if np.all(factors == 1.0):
        return named
    scaling = RopeScaling("llama3", float(factors.max()), 1.0, 4.0, 8192)
    scaled = dataclasses.replace(plain, rope_scaling=scaling)
    slower = frequencies(scaled.layer_kind(0), plain.head_size)
    expected = frequencies(plain.layer_kind(0), plain.head_size) / slower
    if named is not None or not np.allclose(factors, expected, rtol=1e-4):
        raise CheckpointError(
            f"{ROPE_FACTORS} is not the llama 3 scaling of 8192 positions and is not "
            "supported."
        )
    return scaling


def architecture(
    name: str, label: str, variant: Variant, gguf: Naming | None = None
) -> Architecture:
    """Return an architecture of the llama kind.

    Args:
      name: its short name, in config.json and in GGUF files.
      label: the name of its class in config.json.
      variant: what it fixes.
      gguf: its tensors in GGUF files; None if it has no name of its own there.
    """
    read_json = functools.partial(from_json, variant)
    read_gguf = functools.partial(from_gguf, variant)
    return Architecture(
        name=name,
        folder=Format(label=label, read=read_json, tensors=FOLDER),
        gguf=None if gguf is None else Format(label=name, read=read_gguf, tensors=gguf),
    )


def module() -> "type[Llama]":
    """Return the nnx module, imported here because Flax comes with it."""
    from jaxdecode.models.llama import Llama

    return Llama


PLAIN = Variant(
    attention_bias=True, mlp_bias=True, kv_heads_default=True, gguf_window=True
)
MISTRAL = Variant(window=window_on_every_layer)
QWEN2 = Variant(qkv_bias=True, window=window_on_late_layers)
QWEN3 = Variant(
    qk_norm=True, attention_bias=True, head_dim=128, window=window_on_late_layers
)
LLAMA = Family(
    traits=LLAMA_TRAITS,
    config=ModelConfig,
    module=module,
    architectures=(
        architecture("llama", "LlamaForCausalLM", PLAIN, PAIRED_GGUF),
        architecture("mistral", "MistralForCausalLM", MISTRAL),
        architecture("qwen2", "Qwen2ForCausalLM", QWEN2, GGUF),
        architecture("qwen3", "Qwen3ForCausalLM", QWEN3, GGUF),
    ),
)
