"""`describe_model`: what a model is, also where it cannot be loaded."""

import json
import shutil
from pathlib import Path

import pytest

from jaxdecode.text.description import describe_model
from tests.text.vocabularies import byte_level_json
from tests.weights.makers import LLAMA_JSON, write_folder, write_gguf

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_llama"
CARD = "---\r\ntags:\r\n- x\r\nlicense: apache-2.0\r\n---\r\nlicense: mine\r\n"


@pytest.fixture
def folder(tmp_path):
    """The golden llama with a vocabulary, a template, settings and a model card."""
    place = tmp_path / "model"
    place.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDEN / name, place / name)
    byte_level_json(place / "tokenizer.json")
    write(place, "generation_config", eos_token_id=[5, 0], top_k=3, temperature=0.5)
    write(place, "tokenizer_config", eos_token="<|start|>", bos_token=None)
    (place / "chat_template.jinja").write_text("{{ messages }}{{ tools }}{{ mood }}")
    (place / "README.md").write_bytes(CARD.encode())
    return place


def write(folder, name, **values):
    (folder / f"{name}.json").write_text(json.dumps(values))


def test_a_folder_is_described_in_every_respect(folder):
    lines = describe_model(folder)
    assert lines["architecture"] == "LlamaForCausalLM"
    assert "2 layers, width 64" in lines["sizes"]
    assert "vocabulary 97" in lines["sizes"]
    assert lines["parameters"] == "86,464"
    assert lines["dtypes"] == "F32 0.3 MB"
    assert lines["tokenizer"].startswith("Tokenizer(vocab_size=")
    assert "eos 5 " in lines["special ids"]
    assert "0 '<|end|>', 3 " in lines["special ids"]  # 3 is that of config.json
    assert "1 '<|start|>'; pad" in lines["special ids"]
    assert lines["template"] == "35 characters, reads mood, tools"
    assert lines["sampler"] == "chain(Temperature(t=0.5), TopK(k=3, ties='keep'))"
    assert lines["licence"] == "apache-2.0"
    assert lines["unsupported"] == "nothing"


def test_a_gguf_file_is_described_too(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", general__license="mit")
    lines = describe_model(path)
    assert (lines["architecture"], lines["licence"]) == ("llama", "mit")
    assert lines["special ids"] == "bos 2; eos 3; pad 1"
    assert "tokenizer.ggml: cannot be built" in lines["unsupported"]  # its merges


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({"architectures": ["NopeForCausalLM"]}, "NopeForCausalLM", "must be one of"),
        ({"logits_scaling": 3.0}, "LlamaForCausalLM", "`logits_scaling` = 3.0"),
        ({"num_hidden_layers": 3}, "LlamaForCausalLM", "layers.2"),
        ({"architectures": None, "model_type": "bert"}, "bert", "no architecture"),
        ({"architectures": [3], "model_type": []}, "unknown", "must be one of"),
    ],
)
def test_what_cannot_be_loaded_is_described_as_far_as_it_goes(
    tmp_path, change, name, message
):
    lines = describe_model(write_folder(tmp_path / "m", LLAMA_JSON | change))
    assert lines["architecture"] == name
    assert lines["dtypes"].startswith("F32 ")
    assert message in lines["unsupported"]


@pytest.mark.parametrize(
    ("file", "text", "line", "message"),
    [
        ("chat_template.jinja", "\n{% if %}", "template", "chat template: line 2"),
        ("tokenizer.json", "{}", "tokenizer", "tokenizer.json: cannot be read"),
        ("generation_config.json", '{"top_p": 7}', "sampler", "is not used: TopP"),
        ("config.json", "{", "path", "config.json is not JSON"),
    ],
)
def test_a_broken_part_is_named_and_the_others_are_shown(
    folder, file, text, line, message
):
    (folder / file).write_text(text)
    lines = describe_model(folder)
    assert message in lines["unsupported"]
    assert lines["parameters"] == "86,464"
    assert lines["licence"] == "apache-2.0"
    assert line == "path" or lines[line] in ("none", "9 characters, does not compile")


def test_an_unknown_recipe_of_a_gguf_file_is_named(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", **{"tokenizer__ggml__pre": "nope"})
    lines = describe_model(path)
    assert (lines["tokenizer"], lines["sizes"][:12]) == ("none", "family llama")
    assert "tokenizer.ggml.pre: " in lines["unsupported"]


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("license: mit", "not named"),
        ("---\nlicense: 'mit'\n---\n", "mit"),
        ("---\nlicense:\n- mit\n---\n", "not named"),
        ("---\nname: x\n---\nlicense: mit\n", "not named"),
        ("---\nlicense: \x1b[31mmit\n---", "\\u001b[31mmit"),
    ],
)
def test_the_licence_is_that_of_the_head_of_the_card(folder, card, licence):
    (folder / "README.md").write_text(card)
    assert describe_model(folder)["licence"] == licence


def test_nothing_cannot_be_described(tmp_path):
    with pytest.raises(FileNotFoundError):
        describe_model(tmp_path / "nothing")
