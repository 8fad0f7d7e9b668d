"""A copy in the kernels' layout gives the arrays that building the model gives."""

import sys
from collections import UserDict

import numpy as np
import pytest

from jaxdecode.models import build, words_of
from jaxdecode.native import Panels, why_unavailable
from jaxdecode.weights import converted, load_model, open_checkpoint
from jaxdecode.weights.converted import converted_place
from jaxdecode.weights.gguf_file import GGUFFile
from jaxdecode.weights.remembered import Remembered
from tests.weights.makers import GOLDEN

SOURCE = GOLDEN / "tiny_llama_gguf" / "tiny_llama-Q8_0.gguf"
pytestmark = pytest.mark.skipif(why_unavailable() != "", reason=why_unavailable())


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Return a GGUF file, with a cache folder that is empty."""
    monkeypatch.setenv("JAXDECODE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_bytes(SOURCE.read_bytes())
    return path


def same_arrays(model, other):
    found, expected = words_of(model), words_of(other)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_it_holds_what_is_built_and_is_not_built_again(source, dtype, monkeypatch):
    checkpoint = open_checkpoint(source)
    built = build(checkpoint.config, checkpoint.tensors, dtype)
    same_arrays(load_model(source, dtype).model, built)
    monkeypatch.setattr(
        converted, "open_checkpoint", lambda path: pytest.fail(f"decoded {path} again")
    )
    kept = load_model(source, dtype)
    same_arrays(kept.model, built)
    assert kept.model.definition == built.definition
    for name in ("config", "tokenizer", "eos_ids", "bos_id", "pad_id", "name"):
        assert getattr(kept, name) == getattr(checkpoint, name)


@pytest.mark.parametrize("place", [100, -100], ids=["in the header", "in a matrix"])
def test_a_damaged_one_is_made_again(source, place):
    built = load_model(source, "bfloat16").model
    copy = converted_place(source, "bfloat16", laid_out=True)
    data = bytearray(copy.read_bytes())
    data[place] ^= 1
    copy.write_bytes(data)
    same_arrays(load_model(source, "bfloat16").model, built)
    assert copy.read_bytes() != bytes(data)


def test_other_positions_than_the_file_names_do_not_take_it(source):
    load_model(source)
    assert load_model(source, max_length=64).model.max_length == 64


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_kernels_that_were_expected_and_cannot_be_built_are_done_without(
    source, dtype, monkeypatch
):
    for place in ("jaxdecode.models.build", "jaxdecode.weights.load"):
        monkeypatch.setattr(sys.modules[place], "is_available", lambda: False)
    checkpoint = open_checkpoint(source)
    plain = build(checkpoint.config, checkpoint.tensors, dtype, native=False)
    found = load_model(source, dtype).model
    assert not any(isinstance(leaf, Panels) for leaf in found.leaves)
    same_arrays(found, plain)


def test_what_is_rounded_to_int8_is_decoded_once(source, monkeypatch):
    read, names = GGUFFile.read, []

    def counting(file, name):
        names.append(name)
        return read(file, name)

    monkeypatch.setattr(GGUFFile, "read", counting)
    load_model(source, "int8")
    assert len(names) == len(set(names)) > 10


def test_what_there_is_no_room_for_is_decoded_each_time():
    made = []

    class Lazy(UserDict[str, np.ndarray]):
        def __getitem__(self, name):
            made.append(name)
            return np.full(8, ord(name), np.float32)

    given = Lazy({name: np.zeros(8) for name in "abc"})
    arrays = Remembered(given, bytes_max=2 * 32)
    for name in "abcabc":
        np.testing.assert_array_equal(arrays[name], np.full(8, ord(name)))
    assert made == ["a", "b", "c", "c"]
    assert list(arrays) == ["a", "b", "c"]
    assert len(arrays) == 3
