"""Special tokens and settings of sampling that the files beside the weights name."""

import json

import pytest

from jaxdecode.weights import CheckpointError, load_model, open_checkpoint
from tests.weights.makers import LLAMA_JSON, VOCAB, write_folder, write_gguf

TOKENS = [f"t{i}" for i in range(VOCAB)]
ENDS = (
    *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|endoftext|>", "<end_of_turn>"),
    *(
        "<|end|>",
        "<|end_of_text|>",
        "<EOT>",
        "<|return|>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
)


def gguf(tmp_path, spelled, types, **more):
    tokens = [*TOKENS[: VOCAB - len(spelled)], *spelled]
    keys = {"tokenizer__ggml__tokens": tokens, "tokenizer__ggml__token_type": types}
    return write_gguf(tmp_path / "x.gguf", **keys, **more)


@pytest.mark.parametrize("spelled", ENDS)
def test_a_control_token_that_is_spelled_like_an_end_ends_a_text(tmp_path, spelled):
    path = gguf(tmp_path, [spelled], [1] * (VOCAB - 1) + [3])
    assert open_checkpoint(path).eos_ids == (3, VOCAB - 1)


def test_several_ends_come_after_the_one_that_is_named(tmp_path):
    types = [1] * (VOCAB - 3) + [3] * 3
    path = gguf(tmp_path, ["<|eot_id|>", "<|x|>", "<|eom_id|>"], types)
    assert open_checkpoint(path).eos_ids == (3, VOCAB - 3, VOCAB - 1)


def test_an_end_of_one_message_of_several_is_no_end_of_the_turn(tmp_path):
    types = [1] * (VOCAB - 3) + [3] * 3
    path = gguf(tmp_path, ["<|end|>", "<|return|>", "<|call|>"], types)
    assert open_checkpoint(path).eos_ids == (3, VOCAB - 2, VOCAB - 1)


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_a_token_that_is_not_a_control_token_ends_nothing(tmp_path, kind):
    path = gguf(tmp_path, ["<|im_end|>"], [1] * (VOCAB - 1) + [kind])
    assert open_checkpoint(path).eos_ids == (3,)


def test_without_types_the_spelling_tells(tmp_path):
    path = gguf(
        tmp_path,
        ["<|im_end|>", "end"],
        [1] * VOCAB,
        without=("tokenizer.ggml.token_type",),
    )
    assert open_checkpoint(path).eos_ids == (3, VOCAB - 2)


def test_the_converted_copy_knows_what_the_file_says(tmp_path):
    path = gguf(tmp_path, ["<|im_end|>"], [1] * (VOCAB - 1) + [3])
    first, second = load_model(path), load_model(path)
    assert first.eos_ids == second.eos_ids == (3, VOCAB - 1)
    assert second.special_texts == {
        "bos_token": "t2", "eos_token": "t3", "pad_token": "t1"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [5, 3]}, {"eos_token_id": 3}, (5, 3)),
        ({"eos_token_id": 5}, {"eos_token_id": [3, 7]}, (5, 3, 7)),
        ({"eos_token_id": None}, {"eos_token_id": [4]}, (4,)),
        ({}, {"eos_token_id": 4}, (4,)),
        ({"eos_token_id": 6}, {"eos_token_id": None}, (6,)),
        ({"eos_token_id": [6]}, {"eos_token_id": -1}, (6,)),
    ],
)
def test_eos_ids_of_both_files_are_taken_together(
    tmp_path, generation, config, expected
):
    folder = write_folder(
        tmp_path / "m", LLAMA_JSON | config, generation_config=generation
    )
    assert open_checkpoint(folder).eos_ids == expected


BOS = {"content": "<s>", "lstrip": False, "__type": "AddedToken"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"tokenizer_config": {}}, {}),
        (
            {"tokenizer_config": {"bos_token": BOS, "eos_token": "</s>"}},
            {"bos_token": "<s>", "eos_token": "</s>"},
        ),
        ({"tokenizer_config": {"bos_token": None, "pad_token": "<p>"}},
         {"pad_token": "<p>"}),
        ({"special_tokens_map": {"eos_token": "</s>"}}, {"eos_token": "</s>"}),
        (
            {
                "tokenizer_config": {"bos_token": None},
                "special_tokens_map": {"bos_token": BOS, "unk_token": "<unk>"},
            },
            {"unk_token": "<unk>"},
        ),
    ],
)  # fmt: skip
def test_texts_of_special_tokens_are_those_that_the_files_name(
    tmp_path, files, expected
):
    folder = write_folder(tmp_path / "m", **files)
    assert open_checkpoint(folder).special_texts == expected


@pytest.mark.parametrize("token", [3, ["<s>"], {"content": 3}, True])
def test_a_token_without_a_text_is_refused(tmp_path, token):
    folder = write_folder(tmp_path / "m", tokenizer_config={"bos_token": token})
    with pytest.raises(CheckpointError, match="`bos_token` must be a text"):
        open_checkpoint(folder)


def test_settings_of_sampling_are_kept_and_nothing_else(tmp_path):
    generation = {
        "temperature": 0.6, "top_p": None, "do_sample": True, "max_length": 99,
        "transformers_version": "4", "eos_token_id": 3,
    }  # fmt: skip
    folder = write_folder(tmp_path / "m", generation_config=generation)
    expected = {"temperature": 0.6, "do_sample": True}
    assert open_checkpoint(folder).sampling == expected
    assert json.loads(json.dumps(load_model(folder).sampling)) == expected


def gguf_settings(tmp_path, **keys):
    keys = {f"general__sampling__{name}": value for name, value in keys.items()}
    return open_checkpoint(write_gguf(tmp_path / "x.gguf", **keys)).sampling


def test_settings_of_sampling_in_a_gguf_file_are_those_of_its_generation_config(
    tmp_path,
):
    found = gguf_settings(
        tmp_path, temp=0.6, top_k=20, top_p=0.95, min_p=0.1, penalty_repeat=1.05
    )
    assert found == {
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "min_p": 0.1,
        "repetition_penalty": 1.05,
    }


@pytest.mark.parametrize(
    ("only", "is_followed"),
    [
        ({"mirostat": 2}, False),
        ({"sequence": "temp;top_k"}, False),
        ({"xtc_probability": 0.5}, False),
        ({"mirostat": 0, "xtc_probability": 0.0}, True),
    ],
)
def test_settings_that_cannot_be_followed_whole_are_not_followed(
    only, is_followed, tmp_path
):
    found = gguf_settings(tmp_path, temp=0.5, **only)
    assert found == ({"temperature": 0.5} if is_followed else {})


def test_a_gguf_file_without_settings_has_none(tmp_path):
    assert gguf_settings(tmp_path) == {}
