"""`load`: a folder with a tokenizer becomes a model that reads and writes text."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.text import ChatTemplateError, TokenizerError, load_tokenizer
from jaxdecode.weights import TokenizerSource
from tests.text.vocabularies import byte_level, byte_level_json
from tests.weights.makers import write_gguf

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


def write(folder, name, **values):
    (folder / f"{name}.json").write_text(json.dumps(values))


SAYS_TOKENS = (
    "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ bos_token is defined }}"
)
SAYS = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("named", "rendered"),
    [
        ({"bos_token": "<|start|>", "eos_token": "<|end|>"}, "<|start|>|<|end|>||True"),
        (
            {"bos_token": {"content": "<s>"}, "pad_token": {"content": "<pad>"}},
            "<s>||<pad>|True",
        ),
        ({"bos_token": None, "eos_token": "</s>"}, "|</s>||False"),
        ({}, "|||False"),
    ],
)
@pytest.mark.parametrize("eos", [5, [7, 5], None])
def test_tokens_in_a_template_are_those_of_the_tokenizer_config(
    folder, named, rendered, eos
):
    byte_level_json(folder / "tokenizer.json")
    write(folder, "generation_config", eos_token_id=eos, bos_token_id=9, pad_token_id=8)
    write(folder, "tokenizer_config", chat_template=SAYS_TOKENS, **named)
    assert jd.load(folder).chat_template.render(SAYS) == rendered


def test_without_a_tokenizer_config_ids_give_the_tokens(folder):
    byte_level_json(folder / "tokenizer.json")
    write(folder, "generation_config", eos_token_id=[0, 5], bos_token_id=1)
    (folder / "chat_template.jinja").write_text(SAYS_TOKENS)
    rendered = jd.load(folder).chat_template.render(SAYS)
    assert rendered == "<|start|>|<|end|>||True"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("<|end|>", (7, 5, 0)),
        ({"content": "<|start|>"}, (7, 5, 1)),
        (None, (7, 5)),
        ("<|nowhere|>", (7, 5)),
    ],
)
def test_ends_of_all_three_files_are_taken_together(folder, token, expected):
    byte_level_json(folder / "tokenizer.json")
    config = json.loads((folder / "config.json").read_text())
    write(folder, "config", **(config | {"eos_token_id": 5}))
    write(folder, "generation_config", eos_token_id=7)
    write(folder, "tokenizer_config", eos_token=token)
    assert jd.load(folder).eos_ids == expected


def test_an_end_that_only_the_tokenizer_names_pads_too(folder):
    byte_level_json(folder / "tokenizer.json", control=["<|start|>", "<|end|>"])
    config = json.loads((folder / "config.json").read_text())
    for name in ("eos_token_id", "pad_token_id"):
        config[name] = None
    write(folder, "config", **config)
    write(folder, "generation_config")
    write(folder, "tokenizer_config", eos_token="<|end|>")
    lm = jd.load(folder)
    assert (lm.eos_ids, lm.pad_id) == ((1,), 1)


BROKEN = {
    "syntax": ("{% if %}\n", "line 1"),
    "third line": ("a\n{# #}\n{% endfor %}", "line 3"),
    "unknown filter": ("\n{{ messages | nonsense }}", "line 2: No filter"),
    "unknown tag": ("{% trans %}", "line 1"),
    "too long": ("x" * 70_000, "at most 65536 characters"),
    "much too long": ("x" * 3_000_000, "at most 65536 characters"),
    "not UTF-8": ("{{ 'caf\xe9' }}", "must be text without lone surrogates"),
    "half of a pair": ("{{ '\ud800' }}", "must be text without lone surrogates"),
}


@pytest.mark.parametrize("template", BROKEN)
def test_a_template_that_does_not_compile_leaves_plain_generation(folder, template):
    byte_level_json(folder / "tokenizer.json")
    source, message = BROKEN[template]
    if "\ud800" in source:
        write(folder, "tokenizer_config", chat_template=source)
    else:
        (folder / "chat_template.jinja").write_bytes(source.encode("latin-1"))
    lm = jd.load(folder)
    options = {"sampler": jd.Temperature(1.0), "max_new_tokens": 2}
    assert isinstance(lm.generate("ABC", key=0, **options), str)
    for options in ({}, {"tools": []}, {"mood": "good"}):
        with pytest.raises(ChatTemplateError, match=message):
            lm.chat(SAYS, key=0, **options)
    answer = lm.chat(SAYS, key=0, max_new_tokens=2, chat_template="{{ 'AB' }}")
    assert isinstance(answer, str)


def test_a_template_that_fails_fails_only_in_a_chat(folder):
    byte_level_json(folder / "tokenizer.json")
    (folder / "chat_template.jinja").write_text("{{ nothing.at.all }}")
    lm = jd.load(folder)
    with pytest.raises(ChatTemplateError, match="'nothing' is undefined"):
        lm.chat(SAYS, key=0)


WORDS = {"type": "WordPiece", "prefix": "##", "cleanup": True}


def test_a_tokenizer_of_an_unknown_kind_leaves_token_ids(folder):
    byte_level_json(folder / "tokenizer.json", decoder=WORDS)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    lm = jd.load(folder)
    out = jd.generate(lm.model, [[1, 2, 3]], 0, max_new_tokens=2)
    assert out.tokens.shape == (1, 2)
    for ask in (
        lambda: lm.encode("a"),
        lambda: lm.generate("a", key=0),
        lambda: lm.chat(SAYS, key=0),
    ):
        with pytest.raises(TokenizerError, match="decoder WordPiece is not supported"):
            ask()
    jd.load(folder, quantize="int8")


@pytest.mark.parametrize(
    "keys",
    [
        {"tokenizer__ggml__pre": "nope"},
        {"tokenizer__ggml__model": "bert"},
        {"without": ("tokenizer.ggml.pre",)},
    ],
)
def test_a_gguf_file_with_an_unknown_recipe_leaves_token_ids(
    tmp_path, monkeypatch, keys
):
    monkeypatch.setenv("JAXDECODE_CACHE", str(tmp_path / "cache"))
    lm = jd.load(write_gguf(tmp_path / "x.gguf", **keys))
    assert lm.tokenizer is None
    assert lm.eos_ids == (3,)
    for ask in (lambda: lm.encode("a"), lambda: lm.chat(SAYS, key=0)):
        with pytest.raises(
            TokenizerError, match=r"tokenizer\.ggml\.(pre|model): must be"
        ):
            ask()


def test_a_broken_tokenizer_is_still_refused(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="cannot be read"):
        jd.load(folder)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"eos_token_id": 3, "max_length": 20}, None),
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20},
            {"temperature": 0.6, "top_p": 0.9, "top_k": 20},
        ),
        (
            {"temperature": 0.7, "repetition_penalty": 1.05, "top_p": None},
            {"temperature": 0.7, "repetition_penalty": 1.05},
        ),
        ({"do_sample": False, "temperature": 0.6}, {"do_sample": False}),
        ({"temperature": 0.0, "top_k": 5}, {"do_sample": False}),
        (
            {"do_sample": False, "repetition_penalty": 1.2},
            {"do_sample": False, "repetition_penalty": 1.2},
        ),
        ({"repetition_penalty": 1.2}, {"do_sample": False, "repetition_penalty": 1.2}),
        ({"do_sample": True}, {}),
        (
            {"do_sample": True, "top_k": -1, "min_p": 0.1, "suppress_tokens": []},
            {"min_p": 0.1},
        ),
        (
            {"top_k": 3, "min_new_tokens": 2, "suppress_tokens": [4]},
            {"top_k": 3, "min_new_tokens": 2, "suppress_tokens": [4],
             "eos_token_id": [3]},
        ),
    ],
)  # fmt: skip
def test_the_settings_of_a_model_are_offered_as_a_sampler(folder, settings, expected):
    config = json.loads((folder / "config.json").read_text())
    write(folder, "config", **(config | {"eos_token_id": 3}))
    write(folder, "generation_config", **settings)
    sampler = jd.load(folder).default_sampler
    if expected is None:
        assert sampler is None
    else:
        assert repr(sampler) == repr(jd.presets.transformers(**expected))


@pytest.mark.parametrize(
    "settings", [{"temperature": "hot"}, {"top_p": 7}, {"do_sample": "yes"}]
)
def test_settings_that_are_wrong_are_not_offered_and_a_warning_says_so(
    folder, settings
):
    write(folder, "generation_config", **settings)
    with pytest.warns(RuntimeWarning, match="generation_config.json is not used: "):
        lm = jd.load(folder)
    assert lm.default_sampler is None


def test_the_sampler_that_is_offered_is_not_used_unasked(folder):
    byte_level_json(folder / "tokenizer.json")
    write(folder, "generation_config", do_sample=False)
    lm = jd.load(folder)
    texts = {lm.generate("ABC", key=key, max_new_tokens=4) for key in range(4)}
    assert len(texts) > 1
    options = {"sampler": lm.default_sampler, "max_new_tokens": 4}
    assert len({lm.generate("ABC", key=key, **options) for key in range(4)}) == 1
