"""Tiny models of every family: the options of a config.json, and random weights.

Weights are drawn from the names of the tensors, so that only what `transformers` makes
of them must be kept.
"""

import zlib

import numpy as np

VOCAB = 97
SHARED = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
PLANES = 16  # of a head of 32 numbers


def case(label, kind, *, prompts=(5, 11), **options):
    """Options of a model, and the lengths of the prompts that it reads."""
    raw = SHARED | {"architectures": [label], "model_type": kind} | options
    return {k: v for k, v in raw.items() if v is not ...}, prompts


def llama(**rope):
    """A llama with a rotary scaling; its longest prompt is beyond the first training."""
    size = rope.pop("max_position_embeddings", 64)
    return case(
        "LlamaForCausalLM",
        "llama",
        prompts=(11, 29),
        tie_word_embeddings=False,
        max_position_embeddings=size,
        rope_parameters={"rope_theta": 100.0, **rope},
    )


def divisors(first, last):
    """Divisors of the planes of a head, from the fastest to the slowest."""
    return np.linspace(first, last, PLANES).round(3).tolist()


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "short_factor": divisors(1.0, 1.4),
    "long_factor": divisors(1.1, 5.0),
}
MIXTRAL = {"tie_word_embeddings": False, "num_local_experts": 5}
CASES = {
    "gemma2": case(
        *("Gemma2ForCausalLM", "gemma2"),
        head_dim=32,
        query_pre_attn_scalar=24,
        sliding_window=4,
        attn_logit_softcapping=3.0,
        final_logit_softcapping=2.0,
        tie_word_embeddings=False,
    ),
    "gemma3": case(
        *("Gemma3ForCausalLM", "gemma3_text"),
        head_dim=32,
        query_pre_attn_scalar=40,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {
                "rope_type": "linear",
                "factor": 4.0,
                "rope_theta": 1000.0,
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    ),
    "phi3": case("Phi3ForCausalLM", "phi3", sliding_window=5),
    "phi3_partial": case(
        *("Phi3ForCausalLM", "phi3"),
        rope_parameters={"partial_rotary_factor": 0.75, "rope_type": "default"},
    ),
    "phi3_longrope": case(
        *("Phi3ForCausalLM", "phi3"),
        prompts=(5, 11),
        original_max_position_embeddings=32,
        rope_parameters=LONGROPE,
    ),
    "phi3_longrope_long": case(
        *("Phi3ForCausalLM", "phi3"),
        prompts=(17, 29),
        original_max_position_embeddings=16,
        rope_parameters=LONGROPE,
    ),
    "olmo2": case("Olmo2ForCausalLM", "olmo2", num_key_value_heads=2),
    "granite": case(
        *("GraniteForCausalLM", "granite"),
        embedding_multiplier=12.0,
        residual_multiplier=0.4,
        attention_multiplier=0.3,
        logits_scaling=3.0,
        tie_word_embeddings=False,
    ),
    "smollm3": case(
        *("SmolLM3ForCausalLM", "smollm3"),
        num_hidden_layers=4,
        no_rope_layer_interval=2,
        use_sliding_window=True,
        sliding_window=4,
    ),
    "stablelm": case("StableLmForCausalLM", "stablelm", use_qkv_bias=True),
    "stablelm_parallel": case(
        *("StableLmForCausalLM", "stablelm"),
        use_parallel_residual=True,
        rope_parameters={"partial_rotary_factor": 0.5, "rope_type": "default"},
    ),
    "starcoder2": case("Starcoder2ForCausalLM", "starcoder2", sliding_window=5),
    "mixtral": case("MixtralForCausalLM", "mixtral", num_experts_per_tok=2, **MIXTRAL),
    "qwen3_moe": case(
        *("Qwen3MoeForCausalLM", "qwen3_moe"),
        head_dim=32,
        num_experts=7,
        num_experts_per_tok=3,
        moe_intermediate_size=24,
        norm_topk_prob=False,
        mlp_only_layers=[1],
    ),
    "linear": llama(rope_type="linear", factor=4.0),
    "dynamic": llama(rope_type="dynamic", factor=4.0, max_position_embeddings=32),
    "yarn": llama(
        rope_type="yarn",
        factor=4.0,
        original_max_position_embeddings=16,
        beta_fast=2.0,
        beta_slow=0.25,
    ),
    "yarn_whole": llama(
        rope_type="yarn",
        factor=3.0,
        original_max_position_embeddings=20,
        mscale=0.7,
        mscale_all_dim=1.5,
        truncate=False,
    ),
}
NEW = 12  # tokens of a greedy text


def weights(shapes, offset_norms=False):
    """Random float32 tensors of the given shapes by name.

    Args:
      shapes: by name.
      offset_norms: whether norms are stored as what they differ from 1.
    """
    return {
        name: _draw(name, tuple(shape), offset_norms) for name, shape in shapes.items()
    }


def _draw(name, shape, offset_norms):
    draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        draw *= 1.5 * shape[-1] ** -0.5
    elif name.endswith(".bias"):
        draw *= 0.1
    else:
        draw = 0.2 * draw + (0.0 if offset_norms else 1.0)
    return draw.astype(np.float32)


def prompts(lengths):
    """Random token ids of the given lengths."""
    generator = np.random.default_rng(7)
    return [generator.integers(3, VOCAB, n).tolist() for n in lengths]
