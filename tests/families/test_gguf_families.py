"""A GGUF file of every family is the model that the folder with the same weights is."""

import contextlib
import dataclasses

import numpy as np
import pytest

from jaxdecode.weights import (
    CheckpointError,
    gguf_parts,
    load_model,
    open_checkpoint,
)
from tests.families.cases import prompts
from tests.families.checkpoints import together, write
from tests.families.gguf_files import CASES, weights_of, write_file

EVERY = pytest.mark.parametrize("name", CASES)


def folder_of(place, name):
    return write(place / name, name, tensors=weights_of(name), **CASES[name])


def opened(folder, name):
    path = write_file(folder / f"{name}.gguf", name)
    return path, open_checkpoint(path), folder_of(folder, name)


def single(value):
    """Return a description with its numbers in single precision, as files keep them."""
    if dataclasses.is_dataclass(value):
        return [single(getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return [single(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


@EVERY
def test_a_file_is_read_as_the_folder_it_was_made_of(name, tmp_path):
    _, found, folder = opened(tmp_path, name)
    wanted = open_checkpoint(folder)
    assert set(found.tensors) == set(wanted.tensors)
    for ours in wanted.tensors:
        np.testing.assert_allclose(
            np.asarray(found.tensors[ours]),
            np.asarray(wanted.tensors[ours]),
            atol=2e-7,
            err_msg=ours,
        )
    for layer in range(wanted.config.num_layers):
        pair = found.config.layer_kind(layer), wanted.config.layer_kind(layer)
        assert single(pair[0]) == single(pair[1])


@pytest.mark.slow
@EVERY
def test_a_file_and_its_folder_give_the_same_logits(name, tmp_path):
    path, _, folder = opened(tmp_path, name)
    rows = prompts((5, 11))
    pairs = [together(load_model(place).model, rows) for place in (path, folder)]
    for found, wanted in zip(*pairs, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.slow
@EVERY
def test_llama_cpp_gives_the_same_logits(name, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", exc_type=ImportError)
    path, _, _ = opened(tmp_path, name)
    theirs = llama_cpp.Llama(
        str(path),
        n_ctx=64,
        logits_all=True,
        verbose=False,
        n_threads=1,
        flash_attn=False,
    )
    tokens = prompts((5, 11))[1]
    theirs.eval(tokens)
    wanted = np.asarray(theirs.scores[: len(tokens)])
    # So long that llama.cpp takes the divisors of long texts, where there are two sets.
    (found,) = together(load_model(path, max_length=64).model, [tokens])
    # llama.cpp keeps keys and values in half precision.
    np.testing.assert_allclose(found, wanted, atol=2e-2)


HOSTILE = (0, -1, 1, 3, 2**31, 2**63, 0.0, -1.0, 1e30, float("nan"), "x", "", True)


@EVERY
def test_wrong_values_are_refused_and_nothing_else_happens(name, tmp_path, monkeypatch):
    path, changes = write_file(tmp_path / "x.gguf", name), {}
    original = gguf_parts.GGUFFile

    def changed(path):
        file = original(path)
        file.metadata.update(changes)
        return file

    keys = [key for key in original(path).metadata if not key.startswith("tokenizer")]
    keys.remove("general.architecture")
    monkeypatch.setattr(gguf_parts, "GGUFFile", changed)
    for key in keys:
        for value in (*HOSTILE, [], [1, 2], ["x"]):
            changes.clear()
            changes[key] = value
            with contextlib.suppress(CheckpointError):
                open_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("gemma3", "gemma3.block_count", 2**31),
        ("gemma2", "gemma2.block_count", 0),
        ("smollm3", "smollm3.block_count", 10**6),
        ("qwen3_moe", "qwen3moe.block_count", 10**6),
        ("qwen3_moe", "qwen3moe.expert_count", 10**9),
        ("mixtral", "llama.expert_weights_norm", False),
        ("gemma3", "gemma3.attention.sliding_window_pattern", 3),
        ("olmo2", "olmo2.rope.dimension_count", 16),
    ],
)
def test_a_key_out_of_range_is_refused_by_its_name(
    name, key, value, tmp_path, monkeypatch
):
    path = write_file(tmp_path / "x.gguf", name)
    original = gguf_parts.GGUFFile

    def changed(path):
        file = original(path)
        file.metadata[key] = value
        return file

    monkeypatch.setattr(gguf_parts, "GGUFFile", changed)
    with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
        open_checkpoint(path)
