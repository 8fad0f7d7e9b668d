"""Scoring some tokens at a time: the same numbers and slopes, less memory; reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode import scoring
from jaxdecode.decode.prompts import Prompts
from jaxdecode.native import current_platform
from tests import tiny
from tests.models.toys import SIZES, batched, make_params

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11]]
GIVEN = [[3, 1, 4, 1, 5, 9, 2], [6], [5, 3, 5, 8, 9]]
SAMPLERS = {
    "none": None,
    "links with a history": jd.chain(
        *(jd.FrequencyPenalty(0.4), jd.TopK(9), jd.Temperature(0.7))
    ),
}
# The quick cases have the links: what they do comes on top of what is done without.
WITH = pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(x, id=name, marks=[] if x is not None else [pytest.mark.slow])
        for name, x in SAMPLERS.items()
    ],
)
OBSERVE = ["entropy", "rank", "top_logprobs:3", "sampling_top_logprobs:2", "kept"]


@WITH
@pytest.mark.parametrize(
    "chunk",
    [4, *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in (1, 2, 100))],
)
def test_a_chunk_changes_nothing_but_memory(sampler, chunk):
    model = tiny.llama()
    options = {"sampler": sampler, "observe": OBSERVE}
    whole = jd.score(model, PROMPTS, GIVEN, **options)
    parts = jd.score(model, PROMPTS, GIVEN, chunk=chunk, **options)
    assert set(parts.observations) == set(whole.observations)
    for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_rows_that_fill_the_model_are_scored_in_chunks_too():
    """Where a chunk would reach beyond the columns it begins earlier."""
    model = tiny.llama()
    long = [place % tiny.VOCAB for place in range(model.max_length - 3)]
    given = [[1, 2, 3], [3]]
    prompts = [long, [4]]
    whole = jd.score(model, prompts, given)
    for chunk in (1, 2):
        parts = jd.score(model, prompts, given, chunk=chunk)
        np.testing.assert_allclose(
            parts.model_logprobs, whole.model_logprobs, atol=2e-5
        )


@WITH
def test_slopes_are_those_of_the_whole(sampler):
    def loss(params, chunk):
        model = jd.from_logits_function(batched, params, **SIZES)
        found = jd.score(
            model, PROMPTS, GIVEN, sampler=sampler, chunk=chunk, observe=["entropy"]
        )
        likely = jnp.where(found.sampling_logprobs > -1e9, found.sampling_logprobs, 0.0)
        return likely.sum() + 0.1 * found.observations["entropy"].sum()

    params = make_params()
    slopes = jax.jit(jax.grad(loss), static_argnums=1)
    whole, parts = slopes(params, None), slopes(params, 2)
    for name, slope in parts.items():
        np.testing.assert_allclose(slope, whole[name], atol=2e-4)
    assert np.abs(whole["head"]).max() > 0.1


@WITH
def test_what_is_observed_is_what_generate_reports(sampler):
    model = tiny.llama()
    options = {"sampler": sampler, "observe": OBSERVE}
    out = jd.generate(model, PROMPTS, 3, max_new_tokens=6, eos_ids=[7], **options)
    again = jd.score(model, PROMPTS, (out.tokens, out.lengths), chunk=4, **options)
    assert set(again.observations) == set(out.observations)
    for name, wanted in out.observations.items():
        np.testing.assert_allclose(
            again.observations[name], wanted, atol=2e-5, err_msg=name
        )


def test_memory_does_not_grow_with_the_text():
    """A gradient holds the logits of a chunk, not those of the whole text."""
    vocab, width = 20_000, 64
    table = jax.ShapeDtypeStruct((vocab, 8), jnp.float32)

    def bag(table, tokens):
        return jnp.cumsum(table[tokens], axis=1) @ table.T

    def bytes_of(chunk):
        def loss(table):
            model = jd.from_logits_function(bag, table, vocab_size=vocab, max_length=80)
            ones = jnp.ones((2, width), jnp.int32)
            prompts = Prompts(ones[:, :8], jnp.full((2,), 8, jnp.int32))
            given = Prompts(ones, jnp.full((2,), width, jnp.int32))
            static = {"observables": (), "platform": current_platform()}
            found = scoring._run(
                (model, None), prompts, given, None, None, chunk=chunk, **static
            )
            return found.model_logprobs.sum()

        done = jax.jit(jax.grad(loss)).lower(table).compile()
        return done.memory_analysis().temp_size_in_bytes

    whole, parts = bytes_of(None), bytes_of(8)
    assert parts < 0.7 * whole
    assert whole > 2 * width * vocab * 4


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_below_one_is_refused(chunk):
    with pytest.raises(ValueError, match="score: `chunk` must be"):
        jd.score(tiny.llama(), PROMPTS, GIVEN, chunk=chunk)


def test_other_things_are_refused():
    with pytest.raises(TypeError, match="score: `chunk` must be an integer"):
        jd.score(tiny.llama(), PROMPTS, GIVEN, chunk=1.5)
    with pytest.raises(ValueError, match="score: `observe` must be among"):
        jd.score(tiny.llama(), PROMPTS, GIVEN, observe=["perplexity"])
