"""A new family of the llama kind is one file and one line: no other file knows of it."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.models import ModelConfig, moments, random_params
from jaxdecode.models.families import catalog
from jaxdecode.weights import CheckpointError, load_model, open_checkpoint
from jaxdecode.weights.converted import converted_place, open_converted
from tests.weights.makers import LLAMA_JSON, llama_tensors, write_folder, write_gguf
from tests.weights.scaled_llama import LINE, ScaledConfig

DIVISOR = 8.0
SCALED_JSON = LLAMA_JSON | {
    "architectures": ["ScaledForCausalLM"],
    "logits_scaling": DIVISOR,
}
PROMPT = [2, 5, 7]
SIZES = {
    "vocab_size": 13,
    "max_length": 29,
    "width": 12,
    "mlp_width": 17,
    "num_layers": 2,
    "num_heads": 2,
}


@pytest.fixture
def one_more_family(monkeypatch):
    """Add the one line."""
    monkeypatch.setattr(catalog, "FAMILIES", catalog.FAMILIES | LINE)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of random weights."""
    return write_folder(tmp_path / "scaled", SCALED_JSON)


@jax.jit
def logits_of(model):
    tokens = np.array([PROMPT], np.int32)
    positions = np.arange(len(PROMPT), dtype=np.int32)[None]
    return model(tokens, positions, model.init_cache(1, len(PROMPT)))[0]


def test_a_block_of_its_own_is_what_int8_is_calibrated_on(monkeypatch):
    config, found = ScaledConfig(**SIZES), []
    for line in (LINE, {"scaled": LINE["scaled"].replace("SCALED", "HALVED")}):
        monkeypatch.setattr(catalog, "FAMILIES", line)
        moments._read.clear_cache()  # compiled for a config, whatever its family is
        found.append(moments.input_moments(config, random_params(config)))
    first, second = found
    np.testing.assert_array_equal(
        first["layers.0.attention.q"].mean, second["layers.0.attention.q"].mean
    )
    assert not np.allclose(first["head"].square, second["head"].square)


@pytest.mark.usefixtures("one_more_family")
def test_its_switch_is_read_from_a_folder_and_reaches_the_logits(folder, tmp_path):
    scaled = load_model(folder)
    assert isinstance(scaled.config, ScaledConfig)
    assert (scaled.config.family, scaled.config.logits_scaling) == ("scaled", DIVISOR)
    plain = load_model(write_folder(tmp_path / "plain", LLAMA_JSON))
    np.testing.assert_allclose(
        logits_of(scaled.model) * DIVISOR, logits_of(plain.model), rtol=1e-6
    )


@pytest.mark.usefixtures("one_more_family")
@pytest.mark.parametrize(
    "dtype", [pytest.param("float32", marks=pytest.mark.slow), "int8"]
)
def test_it_generates_the_token_its_logits_name(folder, dtype):
    model = load_model(folder, dtype).model
    out = jd.generate(model, [PROMPT], jax.random.key(0), sampler=jd.TopK(1),
                      max_new_tokens=1, eos_ids=())  # fmt: skip
    assert out.tokens[0, 0] == np.argmax(logits_of(model)[0, -1])


@pytest.mark.usefixtures("one_more_family")
def test_its_switch_is_read_from_a_gguf_file_and_kept_in_the_converted_copy(tmp_path):
    path = write_gguf(
        tmp_path / "x.gguf", "scaled", llama_tensors(), scaled__logit_scale=DIVISOR
    )
    expected = open_checkpoint(path).config
    assert expected.logits_scaling == DIVISOR
    for _ in ("made", "found"):
        assert open_converted(path, "float32").config == expected
    assert converted_place(path, "float32").exists()


@pytest.mark.usefixtures("one_more_family")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits_scaling": -1.0}, "ScaledConfig: `logits_scaling` must be finite"),
        ({"embedding_multiplier": 2.0}, "`embedding_multiplier` = 2.0"),
        ({"architectures": ["LlamaForCausalLM"]}, "`logits_scaling` = 8.0"),
    ],
)
def test_a_wrong_value_is_refused_and_so_are_the_switches_of_others(
    tmp_path, changes, message
):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(write_folder(tmp_path / "x", SCALED_JSON | changes))


def test_without_its_line_it_is_refused_by_name(folder):
    with pytest.raises(CheckpointError, match="got ScaledForCausalLM"):
        open_checkpoint(folder)
    with pytest.raises(ValueError, match="`family` must be one of 'llama', 'gpt2'"):
        ModelConfig(family="scaled", **SIZES)
    with pytest.raises(ValueError, match="`family` must be one of 'scaled'"):
        ScaledConfig(family="llama", **SIZES)


@pytest.mark.usefixtures("one_more_family")
@pytest.mark.parametrize("name", [*catalog.FAMILIES, *LINE])
def test_a_record_builds_a_config_of_its_own_family(name):
    family = catalog.family_named(name)
    assert family.name == name
    assert family.config(family=name, **SIZES).traits is family.traits


def test_no_two_architectures_have_one_name():
    found = [architecture for _, architecture in catalog.architectures()]
    for names in (
        [a.name for a in found],
        [a.folder.label for a in found if a.folder],
        [a.gguf.label for a in found if a.gguf and a.gguf.applies is None],
    ):
        assert len(names) == len(set(names)) > 1


def test_an_unknown_family_is_refused_by_name():
    with pytest.raises(ValueError, match="must be one of 'llama', .*got 'mamba'"):
        catalog.family_named("mamba")
