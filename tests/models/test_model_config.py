"""A config that cannot be a model is refused by name, before anything compiles."""

import dataclasses

import pytest

from jaxdecode.models import SHAPES, RopeScaling, parameter_shapes
from tests.models.model_cases import PLAIN, varied


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "mamba"}, "`family` must be one of 'llama', 'gpt2', got 'mamba'"),
        ({"vocab_size": 0}, "`vocab_size` must be >= 1, got 0"),
        ({"num_kv_heads": 3}, r"`num_kv_heads` must divide `num_heads` \(4\), got 3"),
        ({"head_dim": 5}, "`head_dim` must be even for rotary positions, got 5"),
        ({"head_dim": None, "width": 25}, r"`num_heads` must divide `width` \(25\)"),
        ({"activation": "relu"}, "`activation` must be one of 'silu', got 'relu'"),
        ({"norm_eps": 0.0}, "`norm_eps` must be finite and > 0, got 0.0"),
        ({"rope_theta": float("nan")}, "`rope_theta` must be finite and > 0, got nan"),
        ({"sliding_layers": (0,)}, "`sliding_layers` must be None without"),
        (
            {"sliding_window": 3, "sliding_layers": (2,)},
            r"`sliding_layers` must be in \[0, 1\], got 2",
        ),
        ({"scale_by_layer": True}, "`scale_by_layer` must be False for family 'llama'"),
        (
            {"family": "gpt2", "activation": "gelu", "qk_norm": True},
            "`qk_norm` must be False for family 'gpt2', got True",
        ),
    ],
)
def test_values_that_make_no_model_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=f"^ModelConfig: {message}"):
        varied(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 24.0}, "`width` must be an integer"),
        ({"width": True}, "`width` must be an integer"),
        ({"width": [24, 24]}, "`width` must be one number"),
        ({"norm_eps": "small"}, "`norm_eps` must be a number, got 'small'"),
        ({"tied_output": 1}, "`tied_output` must be True or False, got 1"),
        ({"rope_scaling": {"factor": 2}}, "`rope_scaling` must be a RopeScaling"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_by_name(changes, message):
    with pytest.raises(TypeError, match=f"^ModelConfig: {message}"):
        varied(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ntk"}, "`kind` must be one of 'linear', 'llama3', .*got 'ntk'"),
        ({"factor": 0.5}, "`factor` must be >= 1, got 0.5"),
        ({"low_freq_factor": 4.0}, r"`high_freq_factor` must be > `low_freq_factor`"),
    ],
)
def test_rope_scalings_that_are_not_implemented_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=f"^RopeScaling: {message}"):
        RopeScaling(**{"kind": "llama3", "factor": 8.0} | changes)


def test_defaults_are_filled_in_from_the_sizes():
    config = varied(num_kv_heads=None, head_dim=None)
    assert (config.kv_heads, config.head_size) == (4, 6)


def test_equal_configs_hash_alike():
    assert hash(PLAIN) == hash(dataclasses.replace(PLAIN))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("smollm2-135m", 134.5), ("llama-3.2-1b", 1235.8), ("llama-3.1-8b", 8030.3)],
)
def test_known_shapes_have_the_published_number_of_parameters(name, millions):
    count = 0
    for shape in parameter_shapes(SHAPES[name]).values():
        size = 1
        for axis in shape:
            size *= axis
        count += size
    assert abs(count / 1e6 - millions) < 0.05
