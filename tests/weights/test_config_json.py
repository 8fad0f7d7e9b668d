"""A config.json becomes the ModelConfig it means, or is refused by name."""

import json

import pytest

from jaxdecode.models import ModelConfig, RopeScaling
from jaxdecode.weights import CheckpointError
from jaxdecode.weights.config_json import read_config
from tests.weights.makers import GOLDEN, LLAMA_JSON

TINY = {
    "vocab_size": 13,
    "max_length": 29,
    "width": 12,
    "mlp_width": 17,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 1,
}
LLAMA3 = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LONGROPE = {
    "type": "longrope",
    "factor": 2.0,
    "short_factor": [1.0, 2.0],
    "long_factor": [1.0, 2.0],
}


def changed(architecture="LlamaForCausalLM", **options):
    return LLAMA_JSON | {"architectures": [architecture]} | options


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_old_and_new_spelling_are_one_config(model):
    new = json.loads((GOLDEN / model / "config.json").read_text())
    old = json.loads((GOLDEN / model / "config_v4.json").read_text())
    assert read_config(new) == read_config(old)


def test_a_llama_config_is_read():
    assert read_config(LLAMA_JSON) == ModelConfig(**TINY)


def test_llama_biases_and_head_size_are_read():
    raw = changed(attention_bias=True, mlp_bias=True, head_dim=8)
    switches = {"qkv_bias": True, "output_bias": True, "mlp_bias": True}
    assert read_config(raw) == ModelConfig(**TINY, **switches, head_dim=8)


def test_qwen2_has_biases_on_q_k_and_v_only():
    assert read_config(changed("Qwen2ForCausalLM")) == ModelConfig(
        **TINY, qkv_bias=True
    )


def test_qwen3_has_norms_on_q_and_k_and_heads_of_128():
    expected = ModelConfig(**TINY, qk_norm=True, head_dim=128)
    assert read_config(changed("Qwen3ForCausalLM")) == expected


def test_mistral_has_a_window_on_every_layer_unless_it_is_null():
    windowed = read_config(changed("MistralForCausalLM"))
    assert (windowed.sliding_window, windowed.sliding_layers) == (4096, None)
    assert read_config(
        changed("MistralForCausalLM", sliding_window=None)
    ) == ModelConfig(**TINY)


def test_a_qwen_window_is_off_unless_it_is_switched_on():
    raw = changed("Qwen2ForCausalLM", sliding_window=7, max_window_layers=1)
    assert read_config(raw).sliding_window is None
    windowed = read_config(raw | {"use_sliding_window": True})
    assert (windowed.sliding_window, windowed.sliding_layers) == (7, (1,))


def test_layer_types_say_which_layers_have_the_window():
    raw = changed(
        "Qwen3ForCausalLM",
        use_sliding_window=True,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention"],
    )
    assert read_config(raw).sliding_layers == (0,)


@pytest.mark.parametrize(
    "options",
    [
        {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"rope_type": "llama3"}},
        {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"type": "llama3"}},
        {"rope_parameters": LLAMA3 | {"rope_type": "llama3", "rope_theta": 5e5}},
    ],
)
def test_llama3_scaling_is_read_in_each_spelling(options):
    config = read_config(changed(**options))
    assert config.rope_theta == 5e5
    assert config.rope_scaling == RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)


def test_linear_scaling_is_read():
    config = read_config(changed(rope_scaling={"type": "linear", "factor": 2.0}))
    assert config.rope_scaling == RopeScaling("linear", 2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "got MambaForCausalLM"),
        ({"architectures": ["A", "B"]}, "architecture must be one of"),
        ({"architectures": None}, "names no architecture"),
        ({"rope_scaling": {"rope_type": "ntk", "factor": 2.0}}, "'ntk'"),
        ({"rope_scaling": {"type": "su", "factor": 2.0}}, "'su'"),
        ({"rope_scaling": {"type": ["yarn"], "factor": 2.0}}, "of type .'yarn'."),
        ({"rope_scaling": {"factor": 2.0}}, "must name its `rope_type`"),
        ({"rope_parameters": {"mscale": 2.0}}, "must name its `rope_type`"),
        ({"rope_scaling": {"type": "dynamic"}}, "`rope_scaling.factor` is missing"),
        (
            {"rope_scaling": {"type": "yarn", "factor": "2"}},
            "`factor` must be a finite",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": -1}},
            "`beta_fast` must be finite and > 0",
        ),
        (
            {"rope_scaling": {"type": "longrope", "factor": 2.0}},
            "`rope_scaling.short_factor` is missing",
        ),
        ({"rope_scaling": LONGROPE | {"long_factor": [1.0]}}, "`long_factors` must be"),
        (
            {"rope_scaling": LONGROPE | {"short_factor": "ab"}},
            "`short_factors` must be",
        ),
        ({"rope_scaling": LONGROPE}, "each of the 3 planes of a head, got 2"),
        ({"rope_scaling": {"type": "linear"}}, "`rope_scaling.factor` is missing"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "must be >= 1"),
        ({"rope_scaling": [1]}, "`rope_scaling` must be an object"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1.0}}},
            "per layer type",
        ),
        ({"partial_rotary_factor": 0.5}, "`partial_rotary_factor` = 0.5"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"num_local_experts": 8}, "`num_local_experts` = 8"),
        ({"quantization_config": {"bits": 4}}, "`quantization_config`"),
        ({"layer_types": ["linear_attention"]}, "`layer_types`"),
        ({"layer_types": ["sliding_attention"] * 2}, "`layer_types`"),
        ({"hidden_size": None}, "`hidden_size` is missing"),
        ({"hidden_size": "12"}, "`width` must be"),
        ({"hidden_size": -12}, "`width` must be"),
        ({"num_hidden_layers": 10**12}, "`num_hidden_layers` must be in"),
        ({"num_key_value_heads": 3}, "must divide `num_heads`"),
        ({"rms_norm_eps": float("nan")}, "`norm_eps`"),
        ({"attention_bias": "yes"}, "`qkv_bias`"),
    ],
)
def test_what_is_not_supported_or_wrong_is_refused_by_name(options, message):
    with pytest.raises(CheckpointError, match=message):
        read_config(changed(**options))


def test_code_of_a_repository_is_refused_with_the_reason():
    raw = changed("MyModel", auto_map={"AutoModelForCausalLM": "my.MyModel"})
    with pytest.raises(CheckpointError, match=r"MyModel.*auto_map.*never run"):
        read_config(raw)


def test_kv_heads_are_not_guessed_for_mistral():
    with pytest.raises(CheckpointError, match="`num_key_value_heads` is missing"):
        read_config(changed("MistralForCausalLM", num_key_value_heads=None))


def test_gpt2_options_are_read():
    raw = json.loads((GOLDEN / "tiny_gpt2" / "config.json").read_text())
    raw |= {"n_inner": 31, "scale_attn_by_inverse_layer_idx": True}
    config = read_config(raw | {"activation_function": "relu"})
    assert (config.mlp_width, config.scale_by_layer) == (31, True)
    assert (config.activation, config.tied_output) == ("relu", True)
