"""Balanced channels: the same function in float32, a smaller error in int8."""

import dataclasses

import numpy as np
import pytest

from jaxdecode.models import build, random_params
from jaxdecode.models.balance import BalancedParams, balance, quantized
from jaxdecode.models.moments import input_moments
from jaxdecode.models.quantize import Inputs, QuantizedParams, quantize_matrix
from tests.models.model_cases import CASES, PLAIN, read, tokens_of

LLAMAS = {name: c for name, c in CASES.items() if c.family == "llama"}
# All switches of the others, a pair of cases for each of which two programs are made.
SOON = ("grouped", "tied", "all_biases", "qwen3", "two_rotary_bases")
EACH_LLAMA = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in SOON else [pytest.mark.slow]) for n in LLAMAS],
)
RNG = np.random.default_rng(0)


def objective(matrix, energy, s):
    """Expected output error of rounding, up to a constant, in plain numpy."""
    maxima = np.abs(matrix * s).max(axis=1)
    rows = (maxima / np.abs(matrix).max(axis=1)) ** 2
    return rows.sum() * (energy / s**2).sum()


def loud(channels, at=3, by=400.0):
    energy = np.ones(channels)
    energy[at] = by
    return energy


def as_float(params):
    """Arrays of int8 weights and scales, or of floats, as floats."""
    out = {}
    for name, value in params.items():
        if not name.endswith(".scale"):
            scale = params.get(name.removesuffix(".weight") + ".scale")
            out[name] = value if scale is None else value * scale[:, None]
    return out


def balanced(config, params):
    return dict(BalancedParams(config, params, input_moments(config, params)))


def untied(config, params):
    """A tied model with `embedding.unit` as an untied float model."""
    if not config.tied_output:
        return config, params
    params = dict(params)
    table, unit = params["embedding.weight"], params.pop("embedding.unit")
    params |= {"head.weight": table, "embedding.weight": table * unit}
    return dataclasses.replace(config, tied_output=False), params


def logits(config, params):
    return np.asarray(read(build(*untied(config, params)), tokens_of(5, 11))[0])


def test_even_channels_are_left_nearly_alone():
    s = balance([RNG.normal(size=(499, 37))], np.ones(37))
    assert np.abs(np.log(s)).max() < 0.2


def test_a_loud_channel_gets_finer_steps():
    matrix, energy = RNG.normal(size=(101, 37)).astype(np.float32), loud(37)
    s = balance([matrix], energy)
    assert s[3] == s.max() > 1.5
    assert objective(matrix, energy, s) < 0.5 * objective(matrix, energy, 1.0)


def test_no_small_change_of_the_factors_is_much_better():
    matrix, energy = RNG.normal(size=(101, 37)), loud(37, by=30.0)
    s = balance([matrix], energy)
    for _ in range(50):
        other = s * np.exp(0.1 * RNG.normal(size=37))
        assert objective(matrix, energy, other) > 0.97 * objective(matrix, energy, s)


def test_the_rounded_product_has_no_more_error_than_was_foretold():
    matrix, energy = RNG.normal(size=(101, 37)).astype(np.float32), loud(37)
    x = RNG.normal(size=(2000, 37)) * np.sqrt(energy)

    def error(s):
        levels, scale = quantize_matrix(matrix * s)
        return np.square(x @ (levels * scale[:, None] / s - matrix).T).mean()

    s = balance([matrix], energy)
    foretold = objective(matrix, energy, s) / objective(matrix, energy, 1.0)
    # Less, in truth: the largest entry of a row, now often the loud one, is exact.
    assert error(s) / error(np.ones(37)) < 1.2 * foretold < 0.6


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_silent_channels_and_empty_matrices_stay_finite(fill):
    matrix = RNG.normal(size=(11, 7)) * fill
    matrix[:, 2] = 0.0
    s = balance([matrix], loud(7, at=5, by=0.0) * fill)
    assert np.isfinite(s).all()
    assert (s > 0).all()


@EACH_LLAMA
def test_the_function_stays_the_same(name):
    config = LLAMAS[name]
    params = random_params(config, 1)
    np.testing.assert_allclose(
        logits(config, balanced(config, params)),
        np.asarray(read(build(config, params), tokens_of(5, 11))[0]),
        atol=1e-4,
    )


@EACH_LLAMA
def test_it_stays_the_same_for_any_moments(name):
    config = LLAMAS[name]
    params = random_params(config, 1)
    moments = {
        key: Inputs(value.mean, np.exp(3 * RNG.normal(size=value.mean.shape)))
        for key, value in input_moments(config, params).items()
    }
    changed = dict(BalancedParams(config, params, moments))
    assert np.abs(np.log(changed["norm.weight"] / params["norm.weight"])).max() > 0.3
    np.testing.assert_allclose(
        logits(config, changed),
        np.asarray(read(build(config, params), tokens_of(5, 11))[0]),
        atol=1e-4,
    )


@pytest.mark.parametrize("name", ["grouped", "tied", "all_biases"])
def test_loud_channels_cost_less_when_balanced(name):
    config = LLAMAS[name]
    params = random_params(config, 1)
    for norm in ("norm", "layers.0.attention_norm", "layers.1.mlp_norm"):
        params[f"{norm}.weight"] = params[f"{norm}.weight"] * loud(24, by=30.0)
    exact = np.asarray(read(build(config, params), tokens_of(5, 11))[0])
    plain = dict(QuantizedParams(params))
    if config.tied_output:
        plain["embedding.unit"] = np.ones(24, np.float32)
    better = dict(quantized(config, params))

    def error(quantised):
        return np.square(logits(config, as_float(quantised)) - exact).mean()

    assert error(better) < 0.6 * error(plain)


def test_a_gpt2_is_rounded_as_it_is():
    params = random_params(CASES["gpt2"], 0)
    plain = dict(QuantizedParams(params))
    found = dict(quantized(CASES["gpt2"], params))
    assert set(found) == set(plain)
    for name, value in found.items():
        np.testing.assert_array_equal(value, plain[name])


def test_the_names_are_the_models_and_a_tied_table_has_a_unit():
    params = random_params(CASES["tied"], 0)
    changed = balanced(CASES["tied"], params)
    assert set(changed) == set(params) | {"embedding.unit"}
    assert len(changed) == len(params) + 1
    assert set(balanced(PLAIN, random_params(PLAIN, 0))) == set(random_params(PLAIN, 0))
    table = changed["embedding.weight"] * changed["embedding.unit"]
    np.testing.assert_allclose(table, params["embedding.weight"], rtol=1e-6)


def test_the_moments_are_right_at_both_ends_of_the_model():
    params = random_params(PLAIN, 0)
    params["head.weight"] = np.eye(37, 24, dtype=np.float32)
    tokens = np.asarray(tokens_of(11, 11))
    found = input_moments(PLAIN, params, tokens)
    x = params["embedding.weight"][tokens].astype(np.float64)
    x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + PLAIN.norm_eps)
    x *= params["layers.0.attention_norm.weight"]
    check_moments(found["layers.0.attention.q"], x)
    last = np.asarray(read(build(PLAIN, params), tokens.tolist())[0])[..., :24]
    check_moments(found["head"], last)


def check_moments(inputs, x):
    np.testing.assert_allclose(inputs.mean, x.mean((0, 1)), atol=1e-4)
    np.testing.assert_allclose(inputs.square, np.square(x).mean((0, 1)), rtol=1e-3)


@pytest.mark.parametrize("name", ["mistral", "one_layer_slides", "qwen3", "all_biases"])
def test_the_moments_know_every_switch(name):
    config = LLAMAS[name]
    head = {"head.weight": np.eye(37, config.width, dtype=np.float32)}
    params = random_params(config, 0) | head
    tokens = np.asarray(tokens_of(11, 11))
    last = np.asarray(read(build(config, params), tokens.tolist())[0])
    found = input_moments(config, params, tokens)["head"]
    check_moments(found, last[..., : config.width])


@pytest.mark.parametrize(
    ("doubled", "louder"),
    [("attention.v", "attention.o"), ("mlp.up", "mlp.down")],
)
def test_twice_the_rows_are_four_times_the_energy_behind_them(doubled, louder):
    params = random_params(PLAIN, 0)
    before = input_moments(PLAIN, params)[f"layers.1.{louder}"]
    params[f"layers.1.{doubled}.weight"] = 2 * params[f"layers.1.{doubled}.weight"]
    after = input_moments(PLAIN, params)[f"layers.1.{louder}"]
    assert before.square.min() > 0
    np.testing.assert_allclose(after.square, 4 * before.square, rtol=1e-5)
    np.testing.assert_allclose(after.mean, 2 * before.mean, rtol=1e-4, atol=1e-6)


def test_a_text_of_the_callers_decides_the_balance():
    params = random_params(PLAIN, 0)
    one = quantized(PLAIN, params, np.asarray(tokens_of(7, 7)))
    other = quantized(PLAIN, params, np.asarray(tokens_of(7, 7, seed=1)))
    assert not np.array_equal(one["norm.weight"], other["norm.weight"])
    again = quantized(PLAIN, params, np.asarray(tokens_of(7, 7)))
    np.testing.assert_array_equal(one["head.weight"], again["head.weight"])
