"""Options that are in range one by one, of a model that cannot be, or not soon."""

import json
import time
import tracemalloc

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.models.rope import frequencies
from jaxdecode.text.json_tokenizer import from_json
from jaxdecode.weights import CheckpointError, open_checkpoint
from tests.families.checkpoints import TABLE, tensors_of, write
from tests.text import vocabularies
from tests.weights.makers import LLAMA_JSON, write_folder, write_gguf

SOON = 2.0  # seconds of CPU
YARN = TABLE["yarn"]["config"]["rope_parameters"]
LONGROPE = TABLE["phi3_longrope"]["config"]["rope_parameters"]


@pytest.mark.parametrize(
    ("name", "rope"),
    [
        ("yarn", YARN | {"rope_theta": 1.0}),
        ("yarn", YARN | {"rope_theta": 1e-300}),
        ("yarn", YARN | {"beta_fast": 1e308}),
        ("yarn", YARN | {"attention_factor": 1e300}),
        ("linear", {"rope_type": "default", "rope_theta": 1e-45}),
        ("dynamic", {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e-45}),
        ("phi3_longrope", LONGROPE | {"short_factor": [1e-38] * 16}),
    ],
)
def test_angles_that_are_no_numbers_are_refused(tmp_path, name, rope):
    place = write(tmp_path / "x", name, rope_parameters=rope)
    with pytest.raises(CheckpointError, match="x: rotary positions must have finite"):
        open_checkpoint(place)


def test_so_are_those_of_a_gguf_file(tmp_path):
    keys = {"llama.rope.freq_base": 1e-45, "llama.context_length": 2**31 - 1}
    path = write_gguf(tmp_path / "x.gguf", **keys)
    with pytest.raises(CheckpointError, match="rotary positions must have finite"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", TABLE)
def test_angles_of_real_options_are_numbers(tmp_path, name):
    config = open_checkpoint(write(tmp_path / "x", name)).config
    kinds = [kind for kind in config.layer_kinds if kind.rope_theta is not None]
    assert kinds
    for kind in kinds:
        assert np.isfinite(frequencies(kind, config.head_size)).all()


def test_experts_are_counted_before_they_are_named(tmp_path):
    tensors = tensors_of("qwen3_moe")
    tensors |= {f"x.{i}": np.zeros(64, np.float32) for i in range(30)}
    many = {"num_hidden_layers": 30, "mlp_only_layers": None}
    many |= {"num_experts": 1024, "moe_intermediate_size": 1}
    place = write(tmp_path / "x", "qwen3_moe", tensors=tensors, **many)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="`num_experts` .* needs 92160 ten"):
            open_checkpoint(place)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20  # their names take more
    finally:
        tracemalloc.stop()


def test_a_long_list_of_layers_takes_no_long_time(tmp_path):
    many = {"num_hidden_layers": 1024, "mlp_only_layers": [5000] * 500_000}
    place = write(tmp_path / "x", "qwen3_moe", **many)
    begin = time.process_time()
    with pytest.raises(CheckpointError, match="num_layers"):
        open_checkpoint(place)
    assert time.process_time() - begin < SOON


@pytest.mark.parametrize("wrong", [[[1]], ["1"], [True], [0.5], {"1": 1}])
def test_layers_of_another_kind_are_refused(tmp_path, wrong):
    place = write(tmp_path / "x", "qwen3_moe", mlp_only_layers=wrong)
    with pytest.raises(CheckpointError, match="`mlp_only_layers` a list of layers"):
        open_checkpoint(place)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_file_of_options_has_few_bytes(tmp_path, name):
    folder = write_folder(tmp_path / "m")
    (folder / name).write_text(json.dumps(LLAMA_JSON | {"x": "y" * 2**22}))
    with pytest.raises(CheckpointError, match=f"{name} must have at most 4194304 byt"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["bos_token", "eos_token", "pad_token", "unk_token"])
@pytest.mark.parametrize("token", ["\ud800", {"content": "a\udfff"}])
def test_half_of_a_pair_is_no_special_token(tmp_path, name, token):
    folder = write_folder(tmp_path / "m", tokenizer_config={name: token})
    vocabularies.byte_level_json(folder / "tokenizer.json")
    with pytest.raises(CheckpointError, match=f"`{name}` must be a text"):
        jd.load(folder)


def test_half_of_a_pair_has_no_id(tmp_path):
    vocabularies.byte_level_json(tmp_path / "tokenizer.json")
    tokenizer = from_json(tmp_path / "tokenizer.json")
    assert tokenizer.id_of("\ud800") is None
    assert tokenizer.id_of(tokenizer.token(1)) == 1
