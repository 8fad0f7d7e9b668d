"""Logits of two checkpoints equal those of Hugging Face transformers."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxdecode.models import ModelConfig, build, parameter_shapes
from tests.models.model_cases import GOLDEN, read

pytestmark = pytest.mark.optimized

LLAMA_NAMES = {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "attention.": "self_attn.",
    "embedding": "embed_tokens",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
} | {f".{n}.weight": f".{n}_proj.weight" for n in "qkvo"}


def tiny_llama():
    folder = GOLDEN / "tiny_llama"
    raw = json.loads((folder / "config.json").read_text())
    config = ModelConfig(
        vocab_size=raw["vocab_size"],
        max_length=raw["max_position_embeddings"],
        width=raw["hidden_size"],
        mlp_width=raw["intermediate_size"],
        num_layers=raw["num_hidden_layers"],
        num_heads=raw["num_attention_heads"],
        num_kv_heads=raw["num_key_value_heads"],
        head_dim=raw["head_dim"],
        norm_eps=raw["rms_norm_eps"],
        rope_theta=raw["rope_parameters"]["rope_theta"],
    )
    stored = load_file(folder / "model.safetensors")
    return config, {n: stored[_llama_name(n)] for n in parameter_shapes(config)}


def tiny_gpt2():
    folder = GOLDEN / "tiny_gpt2"
    raw = json.loads((folder / "config.json").read_text())
    config = ModelConfig(
        family="gpt2",
        vocab_size=raw["vocab_size"],
        max_length=raw["n_positions"],
        width=raw["n_embd"],
        mlp_width=4 * raw["n_embd"],
        num_layers=raw["n_layer"],
        num_heads=raw["n_head"],
        norm_eps=raw["layer_norm_epsilon"],
        tied_output=True,
    )
    stored = load_file(folder / "model.safetensors")
    params = {
        "embedding.weight": stored["transformer.wte.weight"],
        "positions.weight": stored["transformer.wpe.weight"],
    }
    for kind in ("weight", "bias"):
        params[f"norm.{kind}"] = stored[f"transformer.ln_f.{kind}"]
        for i in range(config.num_layers):
            params |= _gpt2_block(stored, i, kind)
    return config, params


def _llama_name(name):
    if name == "head.weight":
        return "lm_head.weight"
    for ours, theirs in LLAMA_NAMES.items():
        name = name.replace(ours, theirs)
    return f"model.{name}"


def _gpt2_block(stored, i, kind):
    ours, theirs = f"layers.{i}.", f"transformer.h.{i}."
    # Their matrices are [in, out], and q, k and v lie side by side in one.
    fused = np.split(stored[f"{theirs}attn.c_attn.{kind}"].T, 3)
    block = {f"{ours}attention.{n}.{kind}": fused[j] for j, n in enumerate("qkv")}
    pairs = {"attention.o": "attn.c_proj", "mlp.up": "mlp.c_fc"}
    pairs |= {"mlp.down": "mlp.c_proj", "attention_norm": "ln_1", "mlp_norm": "ln_2"}
    for a, b in pairs.items():
        block[f"{ours}{a}.{kind}"] = stored[f"{theirs}{b}.{kind}"].T
    return block


@pytest.mark.parametrize("case", [tiny_llama, tiny_gpt2])
def test_logits_equal_those_of_transformers(case):
    golden = np.load(GOLDEN / case.__name__ / "logits.npz")
    prompts = [golden[f"p{i}_ids"].tolist() for i in range(6)]
    logits, _ = read(build(*case()), prompts, length=64)
    for i, prompt in enumerate(prompts):
        np.testing.assert_allclose(
            logits[i, : len(prompt)], golden[f"p{i}_f64"], atol=2e-4
        )
