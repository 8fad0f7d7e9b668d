"""int8 products against float64, and the model made of them."""

import jax
import numpy as np
import pytest

from jaxdecode.models import build, random_params
from jaxdecode.models.balance import quantized
from jaxdecode.models.matrix import matmul
from jaxdecode.models.quantize import Inputs, quantize_matrix
from tests.models.model_cases import PLAIN

RNG = np.random.default_rng(0)


def test_a_matrix_row_is_off_by_at_most_half_a_level():
    weight = RNG.normal(size=(11, 37)).astype(np.float32)
    rounded, scale = quantize_matrix(weight)
    assert rounded.dtype == np.int8
    error = np.abs(rounded * scale[:, None].astype(np.float64) - weight)
    assert (error <= 0.5001 * scale[:, None]).all()
    assert (np.abs(rounded).max(axis=1) == 127).all()


def test_a_row_of_zeros_stays_zero():
    rounded, scale = quantize_matrix(np.zeros((3, 7), np.float32))
    assert not rounded.any()
    assert np.isfinite(scale).all()
    assert not np.asarray(matmul(np.zeros((2, 7), np.float32), rounded, scale)).any()


def vectors(mean, count=4000):
    """Vectors about a mean that is larger than their spread."""
    return mean + 0.5 * RNG.normal(size=(count, len(mean)))


def test_errors_of_a_row_cancel_for_the_mean_input():
    weight = RNG.normal(size=(101, 67)).astype(np.float32)
    x = vectors(2 * RNG.normal(size=67))
    inputs = Inputs(x.mean(0), np.square(x).mean(0))

    def error(*given):
        levels, scale = quantize_matrix(weight, *given)
        return np.square(x @ (levels * scale[:, None].astype(float) - weight).T).mean()

    assert error(inputs) < 0.25 * error()


def test_cancelling_moves_no_entry_far_and_keeps_the_scale():
    weight = RNG.normal(size=(101, 67)).astype(np.float32)
    x = vectors(2 * RNG.normal(size=67))
    levels, scale = quantize_matrix(weight, Inputs(x.mean(0), np.square(x).mean(0)))
    assert levels.dtype == np.int8
    np.testing.assert_array_equal(scale, quantize_matrix(weight)[1])
    assert np.abs(levels - weight / scale[:, None]).max() < 2.0
    assert np.abs(levels.astype(int)).max() <= 127


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_inputs_without_a_mean_or_without_a_spread_are_fine(mean):
    weight = RNG.normal(size=(13, 37)).astype(np.float32)
    flat = np.full(37, mean)
    levels, scale = quantize_matrix(weight, Inputs(flat, flat**2))
    error = (levels * scale[:, None].astype(float) - weight).sum(axis=1)
    if mean:
        assert np.abs(error).max() < 6 * scale.max()
    else:
        np.testing.assert_array_equal(levels, quantize_matrix(weight)[0])


def test_a_tall_matrix_is_rounded_row_by_row():
    weight = RNG.normal(size=(2 * 512 + 5, 7)).astype(np.float32)
    inputs = Inputs(np.arange(7.0), np.arange(7.0) ** 2 + 1)
    whole, _ = quantize_matrix(weight, inputs)
    last, _ = quantize_matrix(weight[-3:], inputs)
    np.testing.assert_array_equal(whole[-3:], last)


@pytest.mark.parametrize("rows", [1, 3])
def test_two_digits_keep_what_stands_beside_an_outlier(rows):
    x = RNG.normal(size=(rows, 64)).astype(np.float32)
    x[:, 5] = 300.0
    rounded, scale = quantize_matrix(RNG.normal(size=(13, 64)))
    exact = x.astype(np.float64) @ (rounded * scale[:, None].astype(np.float64)).T
    got = np.asarray(matmul(x, rounded, scale))
    # A digit is 300 / 127, the second one 254 times finer; errors add over 64 entries.
    assert np.abs(got - exact).max() < 300 / 127 / 254 * 64**0.5 * 3


def test_a_quantised_model_is_close_to_the_exact_one():
    params = random_params(PLAIN, 0)
    tokens = np.asarray([[1, 2, 3, 4, 5]], np.int32)
    positions = np.arange(5, dtype=np.int32)[None]

    @jax.jit
    def logits(model):
        return model(tokens, positions, model.init_cache(1, 8))[0]

    exact = np.asarray(logits(build(PLAIN, params)))
    coarse = np.asarray(logits(build(PLAIN, params, "int8")))
    assert np.abs(coarse - exact).max() < 0.05 * np.abs(exact).max()
    assert (coarse != exact).any()


def test_the_quantised_names_are_the_models():
    params = random_params(PLAIN, 0)
    quantised = quantized(PLAIN, params)
    model = build(PLAIN, params, "int8")
    assert set(model.params) == set(quantised)
    for name, value in quantised.items():
        np.testing.assert_array_equal(model.params[name], value)
