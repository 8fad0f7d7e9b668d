"""Folders in Hugging Face form: every tensor accounted for, nothing read elsewhere."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxdecode.weights import CheckpointError, open_checkpoint
from jaxdecode.weights.errors import SHOWN_MAX
from tests.weights.makers import (
    GOLDEN,
    LLAMA_JSON,
    golden_tensors,
    llama_tensors,
    write_folder,
    write_shards,
)

Q = "model.layers.1.self_attn.q_proj.weight"


def test_each_parameter_is_the_tensor_of_its_name(tmp_path):
    stored = llama_tensors(biases=("q_proj", "k_proj", "v_proj"))
    config = LLAMA_JSON | {"architectures": ["Qwen2ForCausalLM"]}
    opened = open_checkpoint(write_folder(tmp_path / "m", config, stored)).tensors
    layer = "model.layers.1."
    names = {
        "embedding.weight": "model.embed_tokens.weight",
        "head.weight": "lm_head.weight",
        "norm.weight": "model.norm.weight",
        "layers.1.attention_norm.weight": layer + "input_layernorm.weight",
        "layers.1.attention.q.weight": layer + "self_attn.q_proj.weight",
        "layers.1.attention.q.bias": layer + "self_attn.q_proj.bias",
        "layers.1.attention.k.weight": layer + "self_attn.k_proj.weight",
        "layers.1.attention.v.bias": layer + "self_attn.v_proj.bias",
        "layers.1.attention.o.weight": layer + "self_attn.o_proj.weight",
        "layers.1.mlp_norm.weight": layer + "post_attention_layernorm.weight",
        "layers.1.mlp.gate.weight": layer + "mlp.gate_proj.weight",
        "layers.1.mlp.up.weight": layer + "mlp.up_proj.weight",
        "layers.1.mlp.down.weight": layer + "mlp.down_proj.weight",
    }
    assert len(opened) == len(stored)
    for ours, theirs in names.items():
        np.testing.assert_array_equal(opened[ours], stored[theirs])


def test_qwen3_norms_of_q_and_k_are_found(tmp_path):
    stored = llama_tensors(qk_norm=True)
    config = LLAMA_JSON | {"architectures": ["Qwen3ForCausalLM"], "head_dim": 6}
    opened = open_checkpoint(write_folder(tmp_path / "m", config, stored)).tensors
    for name in ("q_norm", "k_norm"):
        np.testing.assert_array_equal(
            opened[f"layers.0.attention.{name}.weight"],
            stored[f"model.layers.0.self_attn.{name}.weight"],
        )


def test_gpt2_products_are_transposed_and_q_k_v_taken_apart():
    stored = golden_tensors("tiny_gpt2")
    opened = open_checkpoint(GOLDEN / "tiny_gpt2").tensors
    whole = stored["transformer.h.1.attn.c_attn.weight"]
    bias = stored["transformer.h.1.attn.c_attn.bias"]
    for i, name in enumerate("qkv"):
        part = slice(64 * i, 64 * (i + 1))
        ours = f"layers.1.attention.{name}"
        np.testing.assert_array_equal(opened[f"{ours}.weight"], whole[:, part].T)
        np.testing.assert_array_equal(opened[f"{ours}.bias"], bias[part])
    np.testing.assert_array_equal(
        opened["layers.1.mlp.up.weight"], stored["transformer.h.1.mlp.c_fc.weight"].T
    )


def test_gpt2_names_without_prefix_and_with_buffers_are_accepted(tmp_path):
    stored = golden_tensors("tiny_gpt2")
    bare = {n.removeprefix("transformer."): v for n, v in stored.items()}
    bare["h.0.attn.bias"] = np.ones((1, 1, 5, 5), np.uint8)
    bare["h.0.attn.masked_bias"] = np.array(-1e4, np.float32)
    config = json.loads((GOLDEN / "tiny_gpt2" / "config.json").read_text())
    opened = open_checkpoint(write_folder(tmp_path / "m", config, bare)).tensors
    np.testing.assert_array_equal(opened["embedding.weight"], bare["wte.weight"])


def test_old_rotary_buffers_are_ignored(tmp_path):
    stored = llama_tensors()
    stored["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(3, np.float32)
    open_checkpoint(write_folder(tmp_path / "m", tensors=stored))


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_tensors_are_read_as_stored(tmp_path, kind):
    stored = {n: v.astype(kind) for n, v in llama_tensors().items()}
    opened = open_checkpoint(write_folder(tmp_path / "m", tensors=stored)).tensors
    assert opened["norm.weight"].dtype == kind
    np.testing.assert_array_equal(
        opened["norm.weight"].astype(np.float32),
        stored["model.norm.weight"].astype(np.float32),
    )


def broken(change):
    stored = llama_tensors()
    change(stored)
    return stored


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(Q), f"{Q} is missing"),
        (lambda t: t.update(extra=np.ones(3, np.float32)), "extra is unexpected"),
        (
            lambda t: t.update({Q: np.ones((12, 11), np.float32)}),
            r"q_proj.weight must be \[12, 12\], is \[12, 11\]",
        ),
        (lambda t: t.update({Q: np.ones((12, 12), np.int8)}), f"{Q} is I8"),
        (lambda t: t.update({Q: np.ones((12, 12), np.float64)}), f"{Q} is F64"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path, change, message):
    folder = write_folder(tmp_path / "m", tensors=broken(change))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_all_problems_are_listed_up_to_a_limit(tmp_path):
    names = [n for n in llama_tensors() if "mlp." in n or "self_attn.v" in n]
    folder = write_folder(
        tmp_path / "m", tensors=broken(lambda t: [t.pop(n) for n in names])
    )
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert str(caught.value).count("is missing") == SHOWN_MAX
    assert f"and {len(names) - SHOWN_MAX} more" in str(caught.value)


def test_a_stored_head_equal_to_a_tied_embedding_is_accepted(tmp_path):
    stored = llama_tensors()
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"]
    config = LLAMA_JSON | {"tie_word_embeddings": True}
    opened = open_checkpoint(write_folder(tmp_path / "m", config, stored))
    assert "head.weight" not in opened.tensors


def test_a_stored_head_that_differs_from_a_tied_embedding_is_refused(tmp_path):
    config = LLAMA_JSON | {"tie_word_embeddings": True}
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs"):
        open_checkpoint(write_folder(tmp_path / "m", config))


def test_sizes_far_beyond_the_files_are_refused_before_anything_is_made(tmp_path):
    for name in ("vocab_size", "intermediate_size"):
        config = LLAMA_JSON | {name: 2**31 - 1}
        with pytest.raises(CheckpointError, match="needs"):
            open_checkpoint(write_folder(tmp_path / name, config))


def test_shards_give_the_same_tensors_as_one_file(tmp_path):
    one = open_checkpoint(write_folder(tmp_path / "one")).tensors
    two = open_checkpoint(write_shards(tmp_path / "two", {})).tensors
    assert list(one) == list(two)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize(
    "name", ["../b.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", "a\\b"]
)
def test_a_shard_name_that_leaves_the_folder_is_refused(tmp_path, name):
    folder = write_shards(tmp_path / "m", {Q: name})
    with pytest.raises(CheckpointError, match="must stay in the folder"):
        open_checkpoint(folder)


def test_a_shard_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    folder = write_shards(tmp_path / "m", {})
    (folder / "a.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "a.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(CheckpointError, match="link out of the folder"):
        open_checkpoint(folder)


def test_links_of_a_hub_snapshot_into_its_own_blobs_are_followed(tmp_path):
    cached = tmp_path / "models--org--tiny"
    folder = write_folder(cached / "snapshots" / "0123")
    (cached / "blobs").mkdir()
    (folder / "model.safetensors").rename(cached / "blobs" / "abc")
    (folder / "model.safetensors").symlink_to("../../blobs/abc")
    assert open_checkpoint(folder).name == "org/tiny"


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({Q: "a.safetensors"}, "is not in a.safetensors"),
        ({Q: "c.safetensors"}, "'c.safetensors', which is missing"),
        ({"ghost": "a.safetensors"}, "ghost is not in a.safetensors"),
        ({Q: 5}, "must map tensor names to files"),
    ],
)
def test_an_index_that_disagrees_with_the_files_is_refused(tmp_path, places, message):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(write_shards(tmp_path / "m", places))


def test_a_tensor_that_the_index_does_not_list_is_refused(tmp_path):
    folder = write_shards(tmp_path / "m", {})
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    del index["weight_map"][Q]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="is not in the index"):
        open_checkpoint(folder)


def test_a_folder_of_pickles_is_refused_with_the_reason(tmp_path):
    folder = write_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickle files \(pytorch_model.bin\)"):
        open_checkpoint(folder)


def test_a_folder_without_weights_or_config_says_what_is_missing(tmp_path):
    folder = write_folder(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors"):
        open_checkpoint(folder)
    (folder / "config.json").unlink()
    (folder / "x.gguf").touch()
    with pytest.raises(CheckpointError, match=r"no config.json.*x\.gguf"):
        open_checkpoint(folder)


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused(tmp_path, body):
    folder = write_folder(tmp_path / "m")
    (folder / "config.json").write_bytes(body)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(folder)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    folder = write_folder(tmp_path / "m")
    (folder / "tokenizer.json").mkdir()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not a file"):
        open_checkpoint(folder)


def test_special_ids_of_the_generation_config_come_first(tmp_path):
    generation = {"eos_token_id": [5, 3, 5], "pad_token_id": 1}
    folder = write_folder(tmp_path / "m", generation_config=generation)
    opened = open_checkpoint(folder)
    assert (opened.eos_ids, opened.bos_id, opened.pad_id) == ((5, 3), 2, 1)


def test_the_pad_id_defaults_to_the_first_eos_id(tmp_path):
    assert open_checkpoint(write_folder(tmp_path / "m")).pad_id == 3
    none = LLAMA_JSON | {"eos_token_id": None, "pad_token_id": -1}
    opened = open_checkpoint(write_folder(tmp_path / "n", none))
    assert (opened.eos_ids, opened.pad_id) == ((), 0)


def test_an_eos_id_outside_the_vocabulary_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"`eos_token_id` must be .*\[0, 12\]"):
        open_checkpoint(write_folder(tmp_path / "m", LLAMA_JSON | {"eos_token_id": 13}))


def test_the_chat_template_is_found_in_each_of_its_places(tmp_path):
    folder = write_folder(tmp_path / "m")
    assert open_checkpoint(folder).chat_template is None
    several = [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]
    for value, expected in (("S", "S"), (several, "D")):
        config = json.dumps({"chat_template": value})
        (folder / "tokenizer_config.json").write_text(config)
        assert open_checkpoint(folder).chat_template == expected
    (folder / "tokenizer_config.json").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "P"}))
    assert open_checkpoint(folder).chat_template == "P"
    (folder / "chat_template.jinja").write_bytes(b"\xef\xbb\xbfJ")
    assert open_checkpoint(folder).chat_template == "J"


def test_the_tokenizer_is_the_json_file_or_none(tmp_path):
    folder = write_folder(tmp_path / "m")
    assert open_checkpoint(folder).tokenizer is None
    (folder / "tokenizer.json").write_text("{}")
    source = open_checkpoint(folder).tokenizer
    assert (source.kind, source.path) == ("json", folder / "tokenizer.json")


def test_a_truncated_file_is_named(tmp_path):
    folder = write_folder(tmp_path / "m")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_checkpoint(folder)


def test_what_is_not_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_checkpoint(tmp_path / "absent")
    save_file(llama_tensors(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="must be a folder"):
        open_checkpoint(tmp_path / "model.safetensors")
    (tmp_path / "model.pt").touch()
    with pytest.raises(CheckpointError, match="pickle"):
        open_checkpoint(tmp_path / "model.pt")
