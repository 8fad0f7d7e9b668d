"""LoRA adapters: merged as peft does it, and refused by name where that is not known."""

import json
import shutil
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxdecode as jd
from jaxdecode.weights import CheckpointError, load_model, open_checkpoint
from tests.families.cases import CASES, prompts
from tests.families.checkpoints import GOLDEN, tensors_of, together, write

ADAPTER = GOLDEN / "adapter"
Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write(tmp_path_factory.mktemp("granite"), "granite")


def changed(place, *, options=None, tensors=None, dropped=()):
    """A copy of the adapter with other options and tensors."""
    shutil.copytree(ADAPTER, place)
    path = place / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (options or {})))
    path = place / "adapter_model.safetensors"
    kept = {n: a for n, a in load_file(path).items() if n not in dropped}
    save_file(kept | (tensors or {}), path)
    return place


def test_the_merged_model_says_what_peft_says(base):
    golden = np.load(ADAPTER / "logits.npz")
    model = load_model(base, adapter=ADAPTER).model
    rows = prompts(CASES["granite"][1])
    for index, found in enumerate(together(model, rows)):
        np.testing.assert_allclose(found, golden[f"arr_{index}"], atol=2e-4)


def test_it_is_loaded_by_the_public_function(base):
    plain, merged = (
        jd.load(base).model.params,
        jd.load(base, adapter=ADAPTER).model.params,
    )
    moved = {name for name in plain if not np.array_equal(plain[name], merged[name])}
    targets = [f"layers.{i}.{part}.weight" for i in range(3)
               for part in ("attention.q", "mlp.down")]  # fmt: skip
    assert moved == {"embedding.weight", *targets}


def test_a_saved_module_takes_the_place_of_the_bases(base, tmp_path):
    head = np.zeros((97, 64), np.float32)
    adapter = changed(tmp_path / "x", tensors={"base_model.model.lm_head.weight": head})
    found = open_checkpoint(base, adapter).tensors["head.weight"]
    np.testing.assert_array_equal(found, head)


@pytest.mark.parametrize("name", ["phi3", "mixtral"])
def test_it_changes_what_is_stored_whatever_becomes_of_it(name, tmp_path):
    module = {
        "phi3": "model.layers.0.self_attn.qkv_proj",
        "mixtral": "model.layers.0.block_sparse_moe.experts.3.w2",
    }[name]
    place, stored = tmp_path / name, tensors_of(name)
    outputs, inputs = stored[f"{module}.weight"].shape
    draw = np.random.default_rng(0).standard_normal
    a, b = draw((2, inputs)).astype(np.float32), draw((outputs, 2)).astype(np.float32)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    options = {"peft_type": "LORA", "r": 2, "lora_alpha": 3}
    (adapter / "adapter_config.json").write_text(json.dumps(options))
    parts = {f"base_model.model.{module}.lora_{k}.weight": v for k, v in
             (("A", a), ("B", b))}  # fmt: skip
    save_file(parts, adapter / "adapter_model.safetensors")
    found = dict(open_checkpoint(write(place, name), adapter).tensors)
    stored[f"{module}.weight"] = stored[f"{module}.weight"] + 1.5 * b @ a
    expected = dict(
        open_checkpoint(write(tmp_path / "y", name, tensors=stored)).tensors
    )
    for ours, value in expected.items():
        np.testing.assert_allclose(found[ours], value, atol=1e-5, err_msg=ours)


def test_a_transposed_target_gets_a_transposed_change(tmp_path):
    golden = GOLDEN / "tiny_gpt2"
    module = "transformer.h.0.attn.c_attn"
    inputs, outputs = load_file(golden / "model.safetensors")[f"{module}.weight"].shape
    a, b = np.ones((1, inputs), np.float32), np.zeros((outputs, 1), np.float32)
    b[:3] = 1.0  # three rows of q
    options = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "fan_in_fan_out": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(options))
    parts = {f"base_model.model.{module}.lora_{k}.weight": v for k, v in
             (("A", a), ("B", b))}  # fmt: skip
    save_file(parts, tmp_path / "adapter_model.safetensors")
    name = "layers.0.attention.q.weight"
    plain, found = (open_checkpoint(golden, x).tensors[name] for x in (None, tmp_path))
    np.testing.assert_allclose(
        (found - plain).sum(1)[:4], [inputs] * 3 + [0], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peft_type": "IA3"}, "`peft_type` = 'IA3' is not supported"),
        ({"use_dora": True}, "`use_dora` = True"),
        ({"bias": "all"}, "`bias` = 'all'"),
        ({"init_lora_weights": "pissa"}, "`init_lora_weights` = 'pissa'"),
        ({"init_lora_weights": 1}, "`init_lora_weights` = 1"),
        ({"target_parameters": ["experts"]}, "`target_parameters`"),
        ({"lora_alpha": 1e300}, "`lora_alpha` 1e\\+300, which is no float32"),
        ({"lora_alpha": None}, "`lora_alpha` must be a finite number"),
        ({"r": 4}, "the rank 4"),
        ({"rank_pattern": {}}, r"A \[2, 64\], B \[64, 2\], the rank 3"),
        ({"alpha_pattern": {"(a+)+b": 3}}, "`alpha_pattern` must hold names"),
        ({"alpha_pattern": [1]}, "`alpha_pattern` must be an object"),
    ],
)
def test_other_kinds_of_adapters_are_refused_by_their_option(
    base, tmp_path, options, message
):
    adapter = changed(tmp_path / "x", options=options)
    with pytest.raises(CheckpointError, match=f"adapter .*{message}"):
        open_checkpoint(base, adapter)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropped": [f"{Q}B.weight"]}, "needs a matrix A and a matrix B"),
        ({"tensors": {f"{Q}A.weight": np.ones((3, 63), np.float32)}}, r"A \[3, 63\]"),
        ({"tensors": {f"{Q}A.weight": np.ones(3, np.float32)}}, "must be a matrix"),
        ({"tensors": {"base_model.model.x.weight": np.ones(1)}}, "no counterpart"),
        (
            {"tensors": {"base_model.model.model.norm.weight": np.ones(3, np.float32)}},
            "another shape",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(base, tmp_path, changes, message):
    adapter = changed(tmp_path / "x", **changes)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(base, adapter)


def test_the_first_pattern_that_fits_a_module_holds(base, tmp_path):
    name, key = "layers.1.mlp.down.weight", "alpha_pattern"
    long, short = "layers.1.mlp.down_proj", "down_proj"
    whole = f"^model.{long}"

    def added(pattern):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        adapter = changed(place, options={key: pattern})
        return open_checkpoint(base, adapter).tensors[name] - plain

    plain = open_checkpoint(base).tensors[name]
    once = added({short: 1})
    for pattern in (
        {long: 2, short: 5, whole: 7},
        {whole: 2, short: 5, long: 7},
        {"own_proj": 3, "^layers.1.mlp.down_proj": 4, short: 2, long: 5},
    ):
        np.testing.assert_allclose(added(pattern), 2 * once, atol=1e-5)


def test_many_patterns_take_no_long_time(base, tmp_path):
    patterns = {f"m{i}.down_proj": 7 for i in range(150_000)}
    adapter = changed(tmp_path / "x", options={"alpha_pattern": patterns})
    begin = time.process_time()
    open_checkpoint(base, adapter)
    assert time.process_time() - begin < 2.0


def test_an_adapter_alone_is_named_as_such():
    with pytest.raises(CheckpointError, match="LoRA adapter of 'granite'.*`adapter`"):
        open_checkpoint(ADAPTER)


def test_an_adapter_with_the_config_of_its_base_is_named_as_such(base, tmp_path):
    place = changed(tmp_path / "x")
    shutil.copy(base / "config.json", place)
    with pytest.raises(CheckpointError, match="LoRA adapter"):
        open_checkpoint(place)


def test_a_folder_without_an_adapter_and_a_file_are_refused(base, tmp_path):
    with pytest.raises(CheckpointError, match="no adapter_config.json"):
        open_checkpoint(base, base)
    path = GOLDEN / "tiny_llama_gguf" / "tiny_llama-Q8_0.gguf"
    with pytest.raises(CheckpointError, match="the folder of its base"):
        load_model(path, adapter=ADAPTER)
    place = changed(tmp_path / "x")
    (place / "adapter_model.safetensors").rename(place / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="adapter_model.bin can run code"):
        open_checkpoint(base, place)


WRAPPERS = ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_names_of_wrappers_are_taken_off(tmp_path, wrapper):
    tensors = {f"{wrapper}{n}": a for n, a in tensors_of("granite").items()}
    found = open_checkpoint(write(tmp_path / "x", "granite", tensors=tensors)).tensors
    plain = open_checkpoint(write(tmp_path / "y", "granite")).tensors
    for name, value in plain.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_compiled_part_of_a_model_is_found(tmp_path):
    tensors = tensors_of("granite")
    tensors = {n.replace("model.", "model._orig_mod."): a for n, a in tensors.items()}
    open_checkpoint(write(tmp_path / "x", "granite", tensors=tensors))


def test_two_tensors_of_one_name_are_refused(tmp_path):
    tensors = tensors_of("granite")
    tensors["module.lm_head.weight"] = tensors["lm_head.weight"]
    with pytest.raises(CheckpointError, match="are both lm_head.weight"):
        open_checkpoint(write(tmp_path / "x", "granite", tensors=tensors))


@pytest.mark.parametrize("option", [False, ...])
def test_an_untied_model_without_a_head_is_refused_with_the_options_name(
    tmp_path, option
):
    tensors = tensors_of("granite")
    del tensors["lm_head.weight"]
    folder = write(
        tmp_path / "x", "granite", tensors=tensors, tie_word_embeddings=option
    )
    with pytest.raises(CheckpointError, match="lm_head.weight .*`tie_word_embeddings`"):
        open_checkpoint(folder)
    write(tmp_path / "x", "granite", tensors=tensors, tie_word_embeddings=True)
    assert open_checkpoint(folder).config.tied_output


def test_more_positions_can_be_asked_for_where_they_are_not_learned(base):
    assert load_model(base, max_length=128).model.max_length == 128
    with pytest.raises(ValueError, match="`max_length` must be 128, .*learned"):
        load_model(GOLDEN / "tiny_gpt2", max_length=65)
    with pytest.raises(ValueError, match="max_length"):
        load_model(base, max_length=0)
