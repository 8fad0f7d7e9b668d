"""Tiny checkpoints written with the formats' own libraries, and a view of golden files.

Names and layouts are spelled out here once more, from the formats' point of view: what
the loader makes of them is compared with the arrays that went in.
"""

import json
import pathlib

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
WIDTH, HIDDEN, HEADS, KV, SIZE, VOCAB, LAYERS = 12, 17, 2, 1, 6, 13, 2

LLAMA_JSON = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
    "max_position_embeddings": 29,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": VOCAB,
    "tie_word_embeddings": False,
    "eos_token_id": 3,
    "bos_token_id": 2,
}


def llama_tensors(*, biases=(), qk_norm=False, tied=False):
    """Return random tensors under transformers' names."""
    draw = np.random.default_rng(0).standard_normal
    shapes = {
        "model.embed_tokens.weight": (VOCAB, WIDTH),
        "model.norm.weight": (WIDTH,),
    }
    if not tied:
        shapes["lm_head.weight"] = (VOCAB, WIDTH)
    for i in range(LAYERS):
        block = {
            "input_layernorm": (WIDTH,),
            "post_attention_layernorm": (WIDTH,),
            "self_attn.q_proj": (HEADS * SIZE, WIDTH),
            "self_attn.k_proj": (KV * SIZE, WIDTH),
            "self_attn.v_proj": (KV * SIZE, WIDTH),
            "self_attn.o_proj": (WIDTH, HEADS * SIZE),
            "mlp.gate_proj": (HIDDEN, WIDTH),
            "mlp.up_proj": (HIDDEN, WIDTH),
            "mlp.down_proj": (WIDTH, HIDDEN),
        }
        if qk_norm:
            block |= {"self_attn.q_norm": (SIZE,), "self_attn.k_norm": (SIZE,)}
        for name, shape in block.items():
            shapes[f"model.layers.{i}.{name}.weight"] = shape
            if name.rpartition(".")[2] in biases:
                shapes[f"model.layers.{i}.{name}.bias"] = shape[:1]
    return {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}


def write_folder(folder, config=None, tensors=None, **json_files):
    """Write config.json, model.safetensors and further JSON files; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = LLAMA_JSON if config is None else config
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        llama_tensors() if tensors is None else tensors, folder / "model.safetensors"
    )
    for name, value in json_files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def write_shards(folder, places, tensors=None):
    """Write two shards and an index that says `places`; return the folder."""
    tensors = llama_tensors() if tensors is None else tensors
    write_folder(folder, tensors=tensors)
    (folder / "model.safetensors").unlink()
    half = sorted(tensors)[: len(tensors) // 2]
    save_file({n: tensors[n] for n in half}, folder / "a.safetensors")
    rest = {n: v for n, v in tensors.items() if n not in half}
    save_file(rest, folder / "b.safetensors")
    honest = {n: "a.safetensors" if n in half else "b.safetensors" for n in tensors}
    index = {"metadata": {}, "weight_map": honest | places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    """Translate a name of transformers into GGUF's."""
    stem, suffix = name.rsplit(".", 1)
    if not stem.startswith("model.layers."):
        return f"{GGUF_NAMES[stem]}.{suffix}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.{suffix}"


def write_gguf(path, arch="llama", tensors=None, *, extra=None, without=(), **metadata):
    """Write a GGUF file of the tiny sizes; `metadata` adds or overrides keys."""
    tensors = llama_tensors() if tensors is None else tensors
    keys = {
        "context_length": 29,
        "embedding_length": WIDTH,
        "block_count": LAYERS,
        "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    keys = {f"{arch}.{key}": value for key, value in keys.items()}
    keys |= {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [f"t{i}é" for i in range(VOCAB)],
        "tokenizer.ggml.token_type": [1] * VOCAB,
        "tokenizer.ggml.scores": [0.5] * VOCAB,
        "tokenizer.ggml.merges": ["t 1"],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.padding_token_id": 1,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }
    keys |= {key.replace("__", "."): value for key, value in metadata.items()}
    writer = gguf.GGUFWriter(path, arch)
    for key, value in keys.items():
        if key not in without:
            _add(writer, key, value)
    for name, array in tensors.items():
        writer.add_tensor(gguf_name(name), array)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer, key, value):
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    kinds |= {str: writer.add_string, list: writer.add_array}
    kinds[type(value)](key, value)


def golden_tensors(model):
    """Return the tensors of a golden folder under transformers' names."""
    return load_file(GOLDEN / model / "model.safetensors")
