"""Loaded models compute the golden logits, in both formats and both types."""

import json

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.weights import CheckpointError, load, load_model
from jaxdecode.weights.converted import open_converted
from tests.weights.makers import (
    GOLDEN,
    golden_tensors,
    llama_tensors,
    write_folder,
    write_shards,
)

PROMPTS, LONGEST = 6, 40
F32_GGUF = GOLDEN / "tiny_llama_gguf" / "tiny_llama-F32.gguf"


@jax.jit
def forward(model, tokens):
    positions = jnp.broadcast_to(jnp.arange(LONGEST, dtype=jnp.int32), tokens.shape)
    return model(tokens, positions, model.init_cache(PROMPTS, LONGEST))[0]


def largest_error(model, golden, key="p{}_f32"):
    """Compare the logits of all golden prompts, run as one padded batch."""
    stored = np.load(GOLDEN / "tiny_llama" / "logits.npz")
    prompts = [stored[f"p{i}_ids"] for i in range(PROMPTS)]
    tokens = np.array([np.pad(ids, (0, LONGEST - len(ids))) for ids in prompts])
    found = np.asarray(forward(model, jnp.asarray(tokens, jnp.int32)))
    return max(
        np.abs(found[i, : len(ids)] - golden[key.format(i)]).max()
        for i, ids in enumerate(prompts)
    )


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_1"])
def test_a_gguf_model_computes_the_logits_of_its_decoded_weights(kind):
    path = GOLDEN / "tiny_llama_gguf"
    golden = np.load(path / "logits.npz")
    loaded = load_model(path / f"tiny_llama-{kind}.gguf")
    assert largest_error(loaded.model, golden, kind + "_p{}") < 1e-3


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_a_folder_computes_the_logits_of_transformers(model):
    golden = np.load(GOLDEN / model / "logits.npz")
    loaded = load_model(GOLDEN / model)
    assert largest_error(loaded.model, golden) < 2e-4
    assert (loaded.eos_ids, loaded.bos_id, loaded.pad_id) == ((3,), 2, 1)
    assert loaded.name == model


def test_a_folder_in_shards_computes_the_same_logits(tmp_path):
    stored = golden_tensors("tiny_llama")
    folder = write_shards(tmp_path / "m", {}, stored)
    config = (GOLDEN / "tiny_llama" / "config.json").read_text()
    (folder / "config.json").write_text(config)
    golden = np.load(GOLDEN / "tiny_llama" / "logits.npz")
    assert largest_error(load_model(folder).model, golden) < 2e-4


def test_gpt2_as_gguf_computes_the_logits_of_transformers(tmp_path):
    names = {
        "transformer.wte": "token_embd",
        "transformer.wpe": "position_embd",
        "transformer.ln_f": "output_norm",
        "ln_1": "attn_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    }
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "gpt2")
    for name, value in golden_tensors("tiny_gpt2").items():
        stem, suffix = name.rsplit(".", 1)
        if stem.startswith("transformer.h."):
            _, _, layer, part = stem.split(".", 3)
            # Stored as [in, out] by transformers, as [out, in] in this format.
            value = value.T if value.ndim == 2 else value
            theirs = f"blk.{layer}.{names[part]}.{suffix}"
        else:
            theirs = f"{names[stem]}.{suffix}"
        writer.add_tensor(theirs, np.ascontiguousarray(value))
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(256)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    golden = np.load(GOLDEN / "tiny_gpt2" / "logits.npz")
    assert largest_error(load_model(tmp_path / "x.gguf").model, golden) < 2e-4


@pytest.mark.parametrize("source", ["folder", "gguf"])
def test_bfloat16_rounds_matrices_and_keeps_vectors(source):
    path = GOLDEN / "tiny_llama"
    if source == "gguf":
        path = GOLDEN / "tiny_llama_gguf" / "tiny_llama-F32.gguf"
    exact = load_model(path, "float32").model.params
    rounded = load_model(path, "bfloat16").model.params
    for name, value in exact.items():
        kind = jnp.float32 if value.ndim == 1 else jnp.bfloat16
        assert rounded[name].dtype == kind
        np.testing.assert_array_equal(rounded[name], value.astype(kind))


def test_a_half_precision_folder_loads_as_float32(tmp_path):
    stored = {n: v.astype(np.float16) for n, v in llama_tensors().items()}
    params = load_model(write_folder(tmp_path / "m", tensors=stored)).model.params
    assert params["head.weight"].dtype == jnp.float32
    np.testing.assert_array_equal(
        params["head.weight"], stored["lm_head.weight"].astype(np.float32)
    )


def test_a_model_from_a_folder_does_not_change_with_its_file(tmp_path):
    folder = write_folder(tmp_path / "m")
    params = load_model(folder).model.params
    before = np.array(params["norm.weight"])
    with (folder / "model.safetensors").open("r+b") as file:
        size = (folder / "model.safetensors").stat().st_size
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    np.testing.assert_array_equal(params["norm.weight"], before)
    assert all(np.asarray(value).any() for value in params.values())


def test_another_dtype_is_refused_by_name():
    with pytest.raises(
        ValueError, match="`dtype` must be one of .float32., .bfloat16., .int8."
    ):
        load_model(GOLDEN / "tiny_llama", "float16")


def test_a_missing_path_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "absent.gguf")


def test_a_broken_config_is_an_error_of_our_own(tmp_path):
    folder = write_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    with pytest.raises(CheckpointError, match="'relu'"):
        load_model(folder)


def test_the_weights_of_a_converted_file_stay_in_the_mapped_file(monkeypatch):
    opened = []

    def watched(path, dtype):
        opened.append(open_converted(path, dtype))
        return opened[-1]

    monkeypatch.setattr(load, "open_converted", watched)
    monkeypatch.setenv("JAXDECODE_NATIVE", "off")  # the kernels' panels are copies
    model = load_model(F32_GGUF).model
    name = "layers.0.mlp.up.weight"
    mapped = opened[0].tensors[name]
    assert model.params[name].unsafe_buffer_pointer() == mapped.ctypes.data
