"""`load`: a folder with a tokenizer becomes a model that reads and writes text."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.text import TokenizerError, load_tokenizer
from jaxdecode.weights import TokenizerSource
from tests.text.vocabularies import byte_level, byte_level_json

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_llama"


@pytest.fixture
def folder(tmp_path):
    """The golden llama with a vocabulary of its size and a chat template."""
    place = tmp_path / "model"
    place.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copyfile(GOLDEN / name, place / name)
    return place


def test_a_folder_without_tokenizer_loads_with_none(folder):
    lm = jd.load(folder)
    assert lm.tokenizer is None
    assert lm.chat_template is None
    assert lm.model.vocab_size == lm.config.vocab_size


def test_a_folder_with_a_tokenizer_json_reads_text(folder):
    byte_level_json(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{{ messages[0].content }}{{ eos_token }}"})
    )
    lm = jd.load(str(folder))
    assert lm.decode(lm.encode("hello world")) == "hello world"
    assert lm.chat_template is not None
    assert lm.chat_template.render([{"role": "user", "content": "x"}]).startswith("x")


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_weights_are_kept_in_the_type_asked_for(folder, dtype):
    from jax import default_backend

    lm = jd.load(folder, dtype=dtype)
    kinds = {
        np.dtype(leaf.dtype).name for leaf in lm.model.params.values() if leaf.ndim == 2
    }
    expected = dtype or ("float32" if default_backend() == "cpu" else "bfloat16")
    if expected == "float32":
        assert kinds == {"float32"}
    else:
        assert kinds != {"float32"}


@pytest.mark.parametrize("dtype", ["float16", "int8", 32, "f32"])
def test_another_dtype_is_refused(folder, dtype):
    with pytest.raises(ValueError, match="`dtype` must be one of None, 'float32'"):
        jd.load(folder, dtype=dtype)


def test_int8_keeps_matrices_as_int8_with_a_scale(folder):
    params = jd.load(folder, quantize="int8").model.params
    kinds = {str(value.dtype) for value in params.values() if value.ndim == 2}
    assert kinds == {"int8"}


def test_a_type_beside_a_quantizer_is_refused(folder):
    with pytest.raises(ValueError, match="`dtype` must be None where `quantize`"):
        jd.load(folder, dtype="bfloat16", quantize="int8")


@pytest.mark.parametrize("quantize", ["int4", True, 8])
def test_another_quantizer_is_refused(folder, quantize):
    with pytest.raises(ValueError, match="`quantize` must be one of None"):
        jd.load(folder, quantize=quantize)


def test_bad_options_are_refused_before_the_model_is_looked_for():
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        jd.load("no such model", dtype="float16")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="smollm2-135m"):
        jd.load("smollm2-136m")


def test_a_tokenizer_is_built_for_either_kind_of_source(tmp_path):
    path = byte_level_json(tmp_path / "tokenizer.json")
    from_file = load_tokenizer(TokenizerSource("json", path=path))
    from_metadata = load_tokenizer(TokenizerSource("gguf", metadata=byte_level()))
    text = "hello world  12"
    assert from_file.encode(text) == from_metadata.encode(text)


def test_an_unknown_kind_of_source_is_refused():
    with pytest.raises(TokenizerError, match="must be json or gguf, got 'spm'"):
        load_tokenizer(TokenizerSource("spm"))
