"""A Hugging Face `config.json` read as a `ModelConfig`.

Both spellings are understood: `rope_parameters` and `dtype` (transformers 5), and
`rope_theta`, `rope_scaling` and `torch_dtype` (before). What would change the numbers
and is not implemented is refused by its name; code that a repository brings is not run.
"""

from collections.abc import Mapping
from typing import Any

from jaxdecode.core.check import short
from jaxdecode.models.config import ModelConfig, RopeScaling
from jaxdecode.weights.errors import CheckpointError

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GPT2LMHeadModel": "gpt2",
}
# Options of the supported and of neighbouring architectures that change the numbers,
# with the values that do not.
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
}
SCALING_KEYS = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_length": "original_max_position_embeddings",
}
QWEN_WINDOW_START = 28  # transformers' default of max_window_layers
MISTRAL_WINDOW = (
    4096  # transformers' default where the key is absent; null is no window
)
LAYERS_MAX = 1024  # bounds what is enumerated before any weight was seen


def architecture(raw: Mapping[str, Any]) -> str:
    """Return the short name of the architecture, one of the values of `ARCHITECTURES`.

    Raises:
      CheckpointError: for one that is not supported, or none.
    """
    names = raw.get("architectures")
    if not names:
        for kind in ARCHITECTURES.values():
            if raw.get("model_type") == kind:
                return kind
        raise CheckpointError("config.json names no architecture.")
    name = names[0] if isinstance(names, list) and len(names) == 1 else short(names)
    if not isinstance(name, str) or name not in ARCHITECTURES:
        code = ""
        if raw.get("auto_map"):
            code = " The code it brings along (auto_map) is never run."
        raise CheckpointError(
            f"architecture must be one of {', '.join(ARCHITECTURES)}, got {name}.{code}"
        )
    return ARCHITECTURES[name]


def read_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Map the options of a `config.json` onto a `ModelConfig`.

    Args:
      raw: the parsed file.

    Returns:
      The sizes and switches of the model.

    Raises:
      CheckpointError: for an unknown architecture, an option that is not supported, a
        missing option or a value out of range.
    """
    kind = architecture(raw)
    for name, neutral in NEUTRAL.items():
        if raw.get(name) not in neutral:
            raise CheckpointError(
                f"option `{name}` = {short(raw[name])} is not supported."
            )
    options = _gpt2(raw) if kind == "gpt2" else _llama(raw, kind)
    try:
        return ModelConfig(**options)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config.json: {error}") from error


def _gpt2(raw: Mapping[str, Any]) -> dict[str, Any]:
    width = _need(raw, "n_embd")
    inner = raw.get("n_inner")
    return {
        "family": "gpt2",
        "vocab_size": _need(raw, "vocab_size"),
        "max_length": _need(raw, "n_positions"),
        "width": width,
        "mlp_width": 4 * width if inner is None else inner,
        "num_layers": _layers(raw, "n_layer"),
        "num_heads": _need(raw, "n_head"),
        "norm_eps": raw.get("layer_norm_epsilon", 1e-5),
        "activation": raw.get("activation_function", "gelu_new"),
        "tied_output": raw.get("tie_word_embeddings", True),
        "scale_attention": raw.get("scale_attn_weights", True),
        "scale_by_layer": raw.get("scale_attn_by_inverse_layer_idx", False),
    }


def _llama(raw: Mapping[str, Any], kind: str) -> dict[str, Any]:
    theta, scaling = _rope(raw)
    bias = raw.get("attention_bias", False) if kind in ("llama", "qwen3") else False
    kv_heads = raw.get("num_key_value_heads")
    if kv_heads is None and kind != "llama":
        # transformers would fill in a constant of the class: better to ask.
        raise CheckpointError("config.json: `num_key_value_heads` is missing.")
    window, layers = _window(raw, kind)
    return {
        "family": "llama",
        "vocab_size": _need(raw, "vocab_size"),
        "max_length": _need(raw, "max_position_embeddings"),
        "width": _need(raw, "hidden_size"),
        "mlp_width": _need(raw, "intermediate_size"),
        "num_layers": _layers(raw),
        "num_heads": _need(raw, "num_attention_heads"),
        "num_kv_heads": kv_heads,
        "head_dim": raw.get("head_dim") or (128 if kind == "qwen3" else None),
        "norm_eps": raw.get("rms_norm_eps", 1e-6),
        "activation": raw.get("hidden_act", "silu"),
        "tied_output": raw.get("tie_word_embeddings", False),
        "qkv_bias": True if kind == "qwen2" else bias,
        "output_bias": bias,
        "mlp_bias": raw.get("mlp_bias", False) if kind == "llama" else False,
        "qk_norm": kind == "qwen3",
        "sliding_window": window,
        "sliding_layers": layers,
        "rope_theta": theta,
        "rope_scaling": scaling,
    }


def _rope(raw: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    rope = raw.get("rope_parameters")
    name = "rope_parameters" if rope is not None else "rope_scaling"
    if rope is None:
        rope = raw.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"option `{name}` must be an object, got {short(rope)}.")
    theta = rope.get("rope_theta", raw.get("rope_theta", 10000.0))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(
            f"option `{name}.partial_rotary_factor` is not supported."
        )
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        nested = [key for key, value in rope.items() if isinstance(value, dict)]
        if nested:
            raise CheckpointError(f"option `{name}` per layer type is not supported.")
        return theta, None
    if kind not in ("linear", "llama3"):
        raise CheckpointError(
            f"option `{name}` of type {short(kind)} is not supported."
        )
    wanted = SCALING_KEYS if kind == "llama3" else {"factor": "factor"}
    missing = [key for key in wanted.values() if key not in rope]
    if missing:
        raise CheckpointError(f"config.json: `{name}.{missing[0]}` is missing.")
    try:
        return theta, RopeScaling(kind, **{ours: rope[k] for ours, k in wanted.items()})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config.json: {error}") from error


def _window(raw: Mapping[str, Any], kind: str):
    """Return the sliding window and its layers (None is all of them)."""
    types = raw.get("layer_types")
    if types is not None:
        known = ("full_attention", "sliding_attention")
        if not isinstance(types, list) or any(t not in known for t in types):
            raise CheckpointError(f"option `layer_types` must be a list of {known}.")
        if kind == "llama" and "sliding_attention" in types:
            raise CheckpointError(
                "option `layer_types` with a window is not supported."
            )
    if kind == "mistral":
        window = raw.get("sliding_window", MISTRAL_WINDOW)
    elif kind in ("qwen2", "qwen3") and raw.get("use_sliding_window", False):
        window = raw.get("sliding_window")
    else:
        window = None
    if window is None:
        return None, None
    if types is not None:
        layers = tuple(i for i, t in enumerate(types) if t == "sliding_attention")
    elif kind == "mistral":
        return window, None
    else:
        first = raw.get("max_window_layers", QWEN_WINDOW_START)
        layers = tuple(i for i in range(_layers(raw)) if i >= first)
    return (window, layers) if layers else (None, None)


def _layers(raw: Mapping[str, Any], name: str = "num_hidden_layers") -> int:
    count = _need(raw, name)
    if type(count) is not int or not 1 <= count <= LAYERS_MAX:
        raise CheckpointError(
            f"config.json: `{name}` must be in [1, {LAYERS_MAX}], got {short(count)}."
        )
    return count


def _need(raw: Mapping[str, Any], name: str) -> Any:
    if raw.get(name) is None:
        raise CheckpointError(f"config.json: `{name}` is missing.")
    return raw[name]
