"""`score` beside a reference: its log-probs, and the exact divergence from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from tests import tiny

PROMPTS, GIVEN = [[1, 2, 3], [4], [5, 6]], [[3, 1, 4, 1, 5], [9, 2], [6]]
MODEL, OTHER = tiny.bag(), tiny.bag(1)


def log_softmax(row):
    row = np.asarray(row, np.float64)
    return row - row.max() - np.log(np.exp(row - row.max()).sum())


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize(
    "sampler", [pytest.param(None, marks=pytest.mark.slow), jd.TopK(5)]
)
def test_it_is_the_sum_over_the_vocabulary(chunk, sampler):
    asked = {"chunk": chunk, "sampler": sampler, "reference": OTHER}
    found = jd.score(MODEL, PROMPTS, GIVEN, **asked)
    own, other = tiny.forward(MODEL), tiny.forward(OTHER)
    expected = np.zeros((3, 5))
    logprobs = np.zeros((3, 5))
    for row, (prompt, given) in enumerate(zip(PROMPTS, GIVEN, strict=True)):
        for t, token in enumerate(given):
            p = log_softmax(own(prompt + given[:t]))
            q = log_softmax(other(prompt + given[:t]))
            expected[row, t] = np.sum(np.exp(p) * (p - q))
            logprobs[row, t] = q[token]
    np.testing.assert_allclose(found.kl, expected, atol=2e-5)
    np.testing.assert_allclose(found.reference_logprobs, logprobs, atol=2e-5)
    alone = jd.score(MODEL, PROMPTS, GIVEN, sampler=sampler, chunk=chunk)
    np.testing.assert_allclose(found.model_logprobs, alone.model_logprobs, atol=1e-6)
    assert alone.kl is None
    assert alone.reference_logprobs is None


def test_a_model_is_at_no_distance_from_itself():
    found = jd.score(MODEL, PROMPTS, GIVEN, reference=MODEL)
    np.testing.assert_array_equal(found.kl, np.zeros((3, 5)))
    np.testing.assert_array_equal(found.reference_logprobs, found.model_logprobs)


def constant(row):
    """A model that gives one row of logits always."""

    def logits(params, tokens):
        return jnp.broadcast_to(params, (*tokens.shape, tiny.VOCAB))

    sizes = {"vocab_size": tiny.VOCAB, "max_length": tiny.COLUMNS}
    return jd.from_logits_function(logits, row, **sizes)


def test_a_banned_token_counts_where_the_model_may_give_it():
    row = np.linspace(-1, 1, tiny.VOCAB).astype(np.float32)
    banned = np.where(np.arange(tiny.VOCAB) == 3, -np.inf, row).astype(np.float32)
    inside = jd.score(constant(banned), [[1]], [[2]], reference=constant(row))
    p, q = log_softmax(banned), log_softmax(row)
    kept = p > -np.inf
    expected = np.sum(np.exp(p[kept]) * (p[kept] - q[kept]))
    np.testing.assert_allclose(inside.kl[0, 0], expected, atol=1e-6)
    outside = jd.score(constant(row), [[1]], [[2]], reference=constant(banned))
    assert outside.kl[0, 0] == np.inf


@pytest.mark.parametrize("chunk", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_its_slope_is_that_of_finite_differences(chunk):
    start = jnp.asarray(MODEL.table)
    step = jax.random.normal(jax.random.key(0), start.shape)

    @jax.jit
    @jax.value_and_grad
    def distance(table):
        asked = {"reference": OTHER, "chunk": chunk}
        return jnp.sum(jd.score(tiny.Bag(table), PROMPTS, GIVEN, **asked).kl)

    slope = jnp.sum(distance(start)[1] * step)
    size = jnp.float32(1e-3)
    both = distance(start + size * step)[0] - distance(start - size * step)[0]
    np.testing.assert_allclose(slope, both / (2 * size), rtol=2e-3)


def test_a_reference_of_another_vocabulary_is_refused():
    other = jd.from_logits_function(
        lambda params, tokens: params[tokens],
        np.zeros((5, 5), np.float32),
        vocab_size=5,
        max_length=tiny.COLUMNS,
    )
    with pytest.raises(ValueError, match="score: `reference`.*vocab_size.*37.*got 5"):
        jd.score(MODEL, PROMPTS, GIVEN, reference=other)
