"""The tiny models of `cases.py` as GGUF files, as llama.cpp's converter stores them.

Names, keys and layouts are spelled out here from the format's point of view: norms of
Gemma are stored as they are used, some architectures pair the rows of q and k, experts
are one tensor, and some options have no key because llama.cpp knows them.
"""

import math
import re

import gguf
import numpy as np

from tests.families.cases import weights
from tests.families.checkpoints import TABLE
from tests.weights.makers import GGUF_NAMES

# What llama.cpp knows without a key; the folders are written with these options.
PATTERN = ["sliding_attention"] * 5 + ["full_attention"]
CASES = {
    "gemma2": {"query_pre_attn_scalar": 32, "tie_word_embeddings": True},
    "gemma3": {
        "query_pre_attn_scalar": 32,
        "num_hidden_layers": len(PATTERN),
        "layer_types": PATTERN,
        "rope_parameters": {
            "full_attention": {"rope_theta": 1000.0, "factor": 4.0, "type": "linear"},
            "sliding_attention": {"rope_theta": 10000.0},
        },
    },
    "phi3": {"sliding_window": None},  # llama.cpp has none in these two
    "phi3_partial": {},
    "phi3_longrope": {"sliding_window": None},
    "olmo2": {},
    "granite": {},
    "smollm3": {
        "no_rope_layer_interval": 4,
        "no_rope_layers": None,
        "layer_types": None,
        "use_sliding_window": False,
    },
    "stablelm": {},
    "stablelm_parallel": {},
    "starcoder2": {"sliding_window": None},
    "mixtral": {},
    "qwen3_moe": {"norm_topk_prob": True, "mlp_only_layers": []},
}
LABELS = {
    "gemma3_text": "gemma3",
    "mixtral": "llama",
    "qwen3_moe": "qwen3moe",
}
PAIRED = ("granite", "smollm3", "mixtral")
NAMES = GGUF_NAMES | {
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
}
NORMS_AROUND = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
EXPERT = re.compile(r"(.*)\.experts\.(\d+)\.(\w+)\.weight")
EXPERTS = {
    **{"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"},
    "gate_proj": "ffn_gate_exps",
    "up_proj": "ffn_up_exps",
    "down_proj": "ffn_down_exps",
}


def options_of(name):
    """Return the options of a case that llama.cpp can run."""
    return TABLE[name]["config"] | CASES[name]


def weights_of(name):
    """Return the tensors of a case by the names of its folder."""
    shapes = dict(TABLE[name]["shapes"])
    for layer in range(options_of(name)["num_hidden_layers"]):
        for full, shape in TABLE[name]["shapes"].items():
            if full.startswith("model.layers.0."):
                shapes[full.replace("layers.0", f"layers.{layer}")] = shape
    if name == "qwen3_moe":  # whose layer 1 has no experts there
        dense = re.compile(r"model\.layers\.1\.mlp\.\w+_proj\.weight")
        shapes = {k: v for k, v in shapes.items() if not dense.fullmatch(k)}
    if options_of(name)["tie_word_embeddings"]:
        shapes.pop("lm_head.weight", None)
    return weights(shapes, offset_norms=name.startswith("gemma"))


def stored(name):
    """Return the tensors of a case by the names that a GGUF file has for them."""
    raw = options_of(name)
    kind = raw["model_type"]
    names = NAMES | (NORMS_AROUND if kind.startswith(("gemma", "olmo")) else {})
    found, experts = {}, {}
    for full, array in weights_of(name).items():
        if part := EXPERT.fullmatch(full):
            layer = part[1].split(".")[2]
            place = f"blk.{layer}.{EXPERTS[part[3]]}.weight"
            experts.setdefault(place, {})[int(part[2])] = array
            continue
        stem, suffix = full.rsplit(".", 1)
        if kind.startswith("gemma") and stem.endswith("norm"):
            array = array + np.float32(1)
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
        if kind in PAIRED and stem[-6:] in heads:
            array = paired(array, raw[heads[stem[-6:]]])
        if stem.startswith("model.layers."):
            _, _, layer, rest = stem.split(".", 3)
            found[f"blk.{layer}.{names[rest]}.{suffix}"] = array
        else:
            found[f"{names[stem]}.{suffix}"] = array
    if name == "phi3_longrope":
        for size in ("short", "long"):
            factors = raw["rope_parameters"][f"{size}_factor"]
            found[f"rope_factors_{size}.weight"] = np.asarray(factors, np.float32)
    for place, parts in experts.items():
        found[place] = np.stack([parts[i] for i in range(len(parts))])
    return found


def paired(rows, heads):
    """Interleave the halves of each head's rows."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return np.ascontiguousarray(np.swapaxes(halves, 1, 2).reshape(rows.shape))


def metadata(name):
    """Return the keys of a case, without the architecture's name before them."""
    raw = options_of(name)
    width, heads = raw["hidden_size"], raw["num_attention_heads"]
    rope = raw.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    size = raw.get("head_dim") or width // heads
    part = rope.get("partial_rotary_factor", raw.get("partial_rotary_factor"))
    if part is None:
        part = 0.25 if raw["model_type"] == "stablelm" else 1.0
    keys = {
        "context_length": raw["max_position_embeddings"],
        "embedding_length": width,
        "block_count": raw["num_hidden_layers"],
        "feed_forward_length": raw["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": raw["num_key_value_heads"],
        "attention.key_length": size,
        "attention.value_length": size,
        "rope.dimension_count": int(size * part),
        "vocab_size": raw["vocab_size"],
    }
    theta = rope.get("rope_theta", raw.get("rope_theta"))
    keys |= {} if theta is None else {"rope.freq_base": float(theta)}
    if rope.get("factor"):
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    if name == "phi3_longrope":
        trained, whole = raw["original_max_position_embeddings"], keys["context_length"]
        keys["rope.scaling.original_context_length"] = trained
        amplitude = math.sqrt(1 + math.log(whole / trained) / math.log(trained))
        keys["rope.scaling.attn_factor"] = amplitude
    if raw["model_type"] in ("stablelm", "starcoder2"):
        eps = raw.get("norm_epsilon", raw.get("layer_norm_eps", 1e-5))
        keys["attention.layer_norm_epsilon"] = eps
    else:
        keys["attention.layer_norm_rms_epsilon"] = raw["rms_norm_eps"]
    return keys | {
        key: raw[option]
        for key, option in OPTIONS.items()
        if raw.get(option) is not None
    }


OPTIONS = {
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "attention.scale": "attention_multiplier",
    "logit_scale": "logits_scaling",
    "use_parallel_residual": "use_parallel_residual",
    "expert_used_count": "num_experts_per_tok",
    "expert_count": "num_experts",
    "expert_feed_forward_length": "moe_intermediate_size",
}


def write_file(place, name):
    """Write the GGUF file of a case and return its path."""
    raw = options_of(name)
    arch = LABELS.get(raw["model_type"], raw["model_type"])
    writer, keys = gguf.GGUFWriter(place, arch), metadata(name)
    if raw.get("num_local_experts"):
        keys["expert_count"] = raw["num_local_experts"]
    if name == "smollm3":
        del keys["attention.sliding_window"]
    for key, value in keys.items():
        full = f"{arch}.{key}"
        if isinstance(value, bool):
            writer.add_bool(full, value)
        elif isinstance(value, str):
            writer.add_string(full, value)
        elif isinstance(value, int):
            writer.add_uint32(full, value)
        else:
            writer.add_float32(full, value)
    writer.add_string("tokenizer.ggml.model", "none")
    for tensor, array in stored(name).items():
        writer.add_tensor(tensor, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return place
