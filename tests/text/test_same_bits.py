"""One text, bit for bit, in every company: the real model through the CPU kernels."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.native import is_available

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not is_available(), reason="needs the kernels"),
]
KEYS = jax.random.split(jax.random.key(3), 5)
SAMPLER = jd.joint(top_k=50, top_p=0.9, temperature=0.9, frequency_penalty=0.1)


def written(model, prompts, keys, **options):
    out = jd.generate(
        model, prompts, keys, sampler=SAMPLER, **{"max_new_tokens": 16} | options
    )
    return np.asarray(out.tokens), np.asarray(out.model_logprobs)


@pytest.mark.parametrize("kind", [{}, {"dtype": "bfloat16"}, {"quantize": "int8"}])
def test_a_text_does_not_depend_on_batch_bucket_or_length(kind):
    model = jd.load("smollm2-135m", **kind).model
    rng = np.random.default_rng(0)
    prompts = [rng.integers(5, 40000, n).tolist() for n in (9, 3, 16, 21, 12)]
    tokens, logprobs = written(model, prompts, KEYS)
    for row in (0, 2, 3):
        lone = written(model, prompts[row : row + 1], KEYS[row : row + 1])
        np.testing.assert_array_equal(lone[0][0], tokens[row])
        np.testing.assert_array_equal(lone[1][0], logprobs[row])
    longer = written(model, prompts[:1], KEYS[:1], max_new_tokens=40)
    np.testing.assert_array_equal(longer[0][0, :16], tokens[0])
    np.testing.assert_array_equal(longer[1][0, :16], logprobs[0])


@pytest.mark.parametrize(
    "kind",
    [
        {"dtype": "bfloat16"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"quantize": "int8"}, marks=pytest.mark.slow),
    ],
)
def test_a_text_is_the_same_inside_a_jit_and_in_pieces(kind):
    model = jd.load("smollm2-135m", **kind).model
    rng = np.random.default_rng(8)
    lengths = rng.integers(3, 40, 8).astype(np.int32)
    prompts = rng.integers(5, 40000, (8, 64)).astype(np.int32), lengths
    keys = jax.random.split(jax.random.key(1), 8)
    whole = written(model, prompts, keys, max_new_tokens=24)
    options = {"sampler": SAMPLER, "max_new_tokens": 24}

    @jax.jit
    def inside(model, prompts, keys):
        out = jd.generate(model, prompts, keys, **options)
        return out.tokens, out.model_logprobs

    pieces = list(jd.stream(model, prompts, keys, every=5, **options))
    in_pieces = (
        np.concatenate([piece.tokens for piece in pieces], axis=1),
        np.concatenate([piece.model_logprobs for piece in pieces], axis=1),
    )
    for found in (inside(model, prompts, keys), in_pieces):
        for part, wanted in zip(found, whole, strict=True):
            np.testing.assert_array_equal(np.asarray(part), wanted)
