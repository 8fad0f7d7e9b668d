"""What a model computes: equal to plain loops, and to itself read in other ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core.platform import CPU
from jaxdecode.models import build, random_params
from tests.models.model_cases import (
    CASES,
    PLAIN,
    expected_logits,
    model_of,
    read,
    run,
    run_at,
    tokens_of,
)

# Each switch is tried soon in one of the cases; these hold those of the others.
SOON = ("grouped", "all_biases", "qwen3", "mistral", "two_rotary_bases", "llama3_rope")
SOON += ("gpt2", "gpt2_scale_by_layer")
EVERY = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case in SOON else [pytest.mark.slow])
        for case in CASES
    ],
)
SOME = pytest.mark.parametrize(
    "case", [pytest.param("grouped", marks=pytest.mark.slow), "mistral", "gpt2"]
)


@EVERY
def test_logits_equal_the_reference_in_plain_loops(case):
    config, rows = CASES[case], tokens_of(13, 7)
    logits, _ = read(model_of(config), rows)
    for row, got in zip(rows, logits, strict=True):
        expected = expected_logits(config, random_params(config), row)
        np.testing.assert_allclose(got[: len(row)], expected, atol=1e-5)


@SOME
def test_reading_token_by_token_gives_the_logits_of_one_call(case):
    model, rows = model_of(CASES[case]), tokens_of(7, 7)
    whole, _ = read(model, rows)
    cache = model.init_cache(2, 17)
    for i in range(7):
        token = jnp.asarray([row[i : i + 1] for row in rows], jnp.int32)
        step, cache = run(model, token, jnp.full((2, 1), i, jnp.int32), cache)
        np.testing.assert_allclose(step[:, 0], whole[:, i], atol=1e-5)


@SOME
def test_bfloat16_logits_are_close_to_float32(case):
    config, rows = CASES[case], tokens_of(11, 5)
    exact, _ = read(model_of(config), rows)
    rounded, _ = read(model_of(config, "bfloat16"), rows)
    # Errors of 2^-9 a product, about ten deep, on logits of size 1.
    assert np.abs(rounded - exact).max() < 0.1
    assert rounded.dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_lies_beyond_a_row_does_not_change_its_logits(dtype):
    model, rows = model_of(PLAIN, dtype), tokens_of(11, 5)
    clean, _ = read(model, rows, pad=0)
    dirty, _ = read(model, rows, pad=36)
    np.testing.assert_array_equal(clean[1, :5], dirty[1, :5])


def test_padding_is_overwritten_when_the_row_goes_on():
    model, rows = model_of(PLAIN), tokens_of(11, 5)
    _, cache = read(model, rows, pad=36)
    token, position = jnp.asarray([[3], [4]]), jnp.asarray([[11], [5]])
    step, _ = run(model, token.astype(jnp.int32), position.astype(jnp.int32), cache)
    for row, last, got in zip(rows, (3, 4), step, strict=True):
        expected = expected_logits(PLAIN, random_params(PLAIN), [*row, last])[-1]
        np.testing.assert_allclose(got[0], expected, atol=1e-5)


def test_a_row_does_not_see_its_neighbours():
    model, (row, other) = model_of(PLAIN), tokens_of(11, 11)
    first, _ = read(model, [row, other])
    second, _ = read(model, [row, row])
    np.testing.assert_array_equal(first[0], second[0])


@pytest.mark.parametrize("case", ["grouped", "gpt2"])
def test_at_gives_the_logits_of_that_column(case):
    model, rows = model_of(CASES[case]), tokens_of(11, 11)
    whole, _ = read(model, rows)
    tokens, at = jnp.asarray(rows, jnp.int32), jnp.asarray([10, 4], jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(11, dtype=jnp.int32), (2, 11))
    picked, _ = run_at(model, tokens, positions, model.init_cache(2, 17), at)
    np.testing.assert_allclose(picked, whole[jnp.arange(2), at], atol=1e-6)


def test_a_longer_cache_gives_the_same_logits():
    model, rows = model_of(PLAIN), tokens_of(11)
    short, _ = read(model, rows, length=11)
    long, _ = read(model, rows, length=17)
    np.testing.assert_allclose(short, long, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_works_under_the_callers_vmap(dtype):
    model, rows = model_of(PLAIN, dtype), tokens_of(5, 5, 5, 5)
    expected, _ = read(model, rows)
    tokens = jnp.asarray(rows, jnp.int32).reshape(2, 2, 5)
    positions = jnp.broadcast_to(jnp.arange(5, dtype=jnp.int32), (2, 5))

    def logits_of(tokens):
        return run(model, tokens, positions, model.init_cache(2, 17))[0]

    got = jax.vmap(logits_of)(tokens).reshape(4, 5, -1)
    atol = {"float32": 1e-5, "bfloat16": 5e-2}[dtype]
    np.testing.assert_allclose(got, expected, atol=atol)


@pytest.mark.parametrize(
    "case", ["mistral", pytest.param("gpt2", marks=pytest.mark.slow)]
)
def test_the_derivative_by_the_weights_equals_differences_of_the_reference(case):
    config, rows = CASES[case], tokens_of(7)
    params = random_params(config)
    direction = random_params(config, 1)

    def logits_of(params):
        return read(build(config, params), rows)[0][0]

    _, got = jax.jvp(logits_of, (params,), (direction,))
    ends = [
        {n: params[n].astype(np.float64) + h * direction[n] for n in params}
        for h in (1e-5, -1e-5)
    ]
    high, low = (expected_logits(config, end, rows[0]) for end in ends)
    np.testing.assert_allclose(got, (high - low) / 2e-5, atol=1e-3)


def test_a_bfloat16_model_with_a_cache_of_words_refuses_to_be_differentiated():
    plain = build(PLAIN, random_params(PLAIN), "bfloat16", native=False)
    model, rows = plain, tokens_of(3)

    def loss(model):
        return read(model, rows)[0].sum()

    with pytest.raises(TypeError, match=r"model\.on\(platform\.with_slopes\(\)\)"):
        jax.grad(loss)(model)
    slopes = jax.grad(loss)(model.on(CPU.with_slopes()))
    assert all(np.abs(slope).max() > 0 for slope in slopes.leaves)
