"""Files that somebody made to hang or to raise what no reader documents."""

import json
import os
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxdecode.weights import CheckpointError, open_checkpoint
from jaxdecode.weights.errors import listing
from jaxdecode.weights.gguf_file import GGUFFile
from jaxdecode.weights.opening import open_file
from tests.weights.makers import (
    LLAMA_JSON,
    llama_tensors,
    write_folder,
    write_gguf,
    write_shards,
)
from tests.weights.mutant_kinds import gguf_bytes, gguf_parts

SOON = 2.0  # seconds of CPU
EMPTY = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'


def write_header(path, header, data=b""):
    raw = header.encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def entries(names):
    return "{" + ",".join(f'"{name}":{EMPTY}' for name in names) + "}"


def strings(names):
    return '{"__metadata__":{' + ",".join(f'"{name}":"x"' for name in names) + "}}"


@pytest.mark.parametrize("write", [entries, strings], ids=["tensors", "metadata"])
@pytest.mark.parametrize(
    "names",
    [["a"] * 20_000, [f"n{i % 10_000}" for i in range(20_000)]],
    ids=["one name", "each name twice"],
)
def test_repeated_names_are_refused_soon(tmp_path, write, names):
    path = write_header(tmp_path / "x.safetensors", write(names))
    begin = time.process_time()
    with pytest.raises(CheckpointError, match="names must be unique"):
        open_file(path)
    assert time.process_time() - begin < SOON


def test_many_names_take_no_long_time(tmp_path):
    path = write_header(tmp_path / "x.safetensors", entries(range(15_000)))
    begin = time.process_time()
    assert len(open_file(path).tensors) == 15_000
    assert time.process_time() - begin < SOON


def test_an_index_of_many_names_takes_no_long_time(tmp_path):
    ghosts = {f"n{i}": "a.safetensors" for i in range(15_000)}
    folder = write_shards(tmp_path / "m", ghosts)
    begin = time.process_time()
    with pytest.raises(CheckpointError, match="n0 is not in a.safetensors"):
        open_checkpoint(folder)
    assert time.process_time() - begin < SOON


def test_a_tensor_of_too_many_axes_is_refused(tmp_path):
    axes = json.dumps([1] * 70)
    header = f'{{"a":{{"dtype":"F32","shape":{axes},"data_offsets":[0,4]}}}}'
    path = write_header(tmp_path / "x.safetensors", header, b"1234")
    with pytest.raises(CheckpointError, match="'a' must have at most 8 axes, got 70"):
        open_file(path)


def test_metadata_of_null_is_none(tmp_path):
    path = write_header(tmp_path / "x.safetensors", '{"__metadata__":null}')
    assert open_file(path).metadata == {}


def said_of(path):
    """Return why a checkpoint is refused, briefly and with its path, or None."""
    try:
        open_checkpoint(path)
    except CheckpointError as error:
        message = str(error)
    else:
        return None
    assert str(path) in message
    assert len(message) < 600
    return message


WRONG = [[], {}, [[1]], {"a": 1}, "", "a", "\ud800", True, 0, -1, 0.5, 2**31, 2**63]
WRONG += [2**64, 10**400, -(10**400), 1e308, float("inf"), float("nan")]
NAMES = [*LLAMA_JSON, "model_type", "layer_types", "rope_scaling", "rope_parameters"]
NAMES += ["head_dim", "sliding_window", "attention_bias", "num_experts"]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(
    "kind", ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"]
)
def test_an_option_of_the_wrong_kind_is_a_checkpoint_error(tmp_path, kind, wrong):
    folder = write_folder(tmp_path / "m")
    refused = 0
    for name in NAMES:
        config = LLAMA_JSON | {"architectures": [kind], name: wrong}
        (folder / "config.json").write_text(json.dumps(config))
        refused += said_of(folder) is not None
    assert refused > 5


@pytest.mark.parametrize("option", ["factor", "low_freq_factor", "rope_theta"])
@pytest.mark.parametrize("wrong", [[], {}, "8", None, 10**400, -1, float("nan")])
def test_a_rope_of_the_wrong_kind_is_a_checkpoint_error(tmp_path, option, wrong):
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    config = LLAMA_JSON | {"rope_parameters": rope | {option: wrong}}
    with pytest.raises(CheckpointError, match="config.json"):
        open_checkpoint(write_folder(tmp_path / "m", config))


@pytest.mark.parametrize("wrong", WRONG[:7])
@pytest.mark.parametrize("name", ["eos_token_id", "bos_token_id"])
def test_a_special_id_of_the_wrong_kind_is_a_checkpoint_error(tmp_path, name, wrong):
    if wrong in ([], ""):
        pytest.skip("none at all")
    folder = write_folder(tmp_path / "m", generation_config={name: wrong})
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "templates",
    [
        [{"name": ["default"], "template": "x"}],
        [{"name": {"a": 1}, "template": "x"}, {"name": "default", "template": "yes"}],
        [["default", "x"], {"name": "default", "template": "yes"}],
        [{"name": "default", "template": ["x"]}],
        {"default": "x"},
        5,
    ],
)
def test_templates_of_the_wrong_kind_are_passed_over(tmp_path, templates):
    config = {"chat_template": templates}
    folder = write_folder(tmp_path / "m", tokenizer_config=config)
    found = open_checkpoint(folder).chat_template
    assert found == ("yes" if "yes" in str(templates) else None)


@pytest.mark.parametrize("name", ["é" * 5000, "a\0b", "\ud800", "a" * 300, ".", ""])
def test_a_shard_that_no_file_can_be_called_is_a_checkpoint_error(tmp_path, name):
    folder = write_shards(tmp_path / "m", {"model.norm.weight": name})
    with pytest.raises(CheckpointError, match="m: ") as caught:
        open_checkpoint(folder)
    assert len(str(caught.value)) < 600


# A large number is a fine number, and what the tokens are is the tokenizer's affair.
CAN_BE_ANY = ("llama.rope.scaling.factor", "llama.attention.sliding_window")
CAN_BE_ANY += ("llama.context_length", "llama.attention.layer_norm_rms_epsilon")


@pytest.mark.parametrize("wrong", [["llama"], [1], True, 2.5, "", 2**64 - 1, 2**63])
@pytest.mark.parametrize(
    "key",
    [
        "general.architecture",
        "llama.context_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.layer_norm_rms_epsilon",
        "llama.rope.scaling.type",
        "llama.rope.scaling.factor",
        "llama.attention.sliding_window",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.tokens",
    ],
)
def test_a_gguf_key_of_the_wrong_kind_is_a_checkpoint_error(tmp_path, key, wrong):
    path = write_gguf(tmp_path / "x.gguf")
    metadata, rest, count = gguf_parts(path, path.read_bytes())
    path.write_bytes(gguf_bytes(metadata | {key: wrong}, rest, count))
    if said_of(path) is None:
        assert key in CAN_BE_ANY or key == "tokenizer.ggml.tokens"


def test_a_name_that_is_a_list_is_not_taken_for_the_name(tmp_path):
    path = write_gguf(tmp_path / "x.gguf")
    metadata, rest, count = gguf_parts(path, path.read_bytes())
    path.write_bytes(gguf_bytes(metadata | {"general.name": ["a"]}, rest, count))
    assert open_checkpoint(path).name == "x"


@pytest.mark.parametrize("shape", [(2, 4096), (4,), (3, 1)])
def test_a_divisor_table_of_another_size_is_refused_before_it_is_decoded(
    tmp_path, monkeypatch, shape
):
    extra = {"rope_freqs.weight": np.ones(shape, np.float32)}
    path = write_gguf(tmp_path / "x.gguf", extra=extra)
    monkeypatch.delattr(GGUFFile, "read")
    with pytest.raises(CheckpointError, match="one divisor"):
        open_checkpoint(path)


def test_a_listing_shows_the_beginning_of_a_long_name():
    assert len(listing(["a" * 10**6] * 9)) < 1200


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    folder = write_folder(tmp_path / "m")
    (folder / "model.safetensors").chmod(0)
    with pytest.raises((PermissionError, CheckpointError)):
        open_checkpoint(folder)


def test_what_is_not_damaged_is_still_read(tmp_path):
    folder = write_folder(tmp_path / "m")
    save_file(llama_tensors(), folder / "model.safetensors", {"format": "pt"})
    assert len(dict(open_checkpoint(folder).tensors)) == len(llama_tensors())
