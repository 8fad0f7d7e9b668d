"""What a `Generation` says of its rows beyond the tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from tests import tiny
from tests.models.toys import SIZES, batched, make_params

MODEL = jd.from_logits_function(batched, make_params(), **SIZES)
PROMPTS = [[3, 1], [4, 1, 5]]


def test_the_mask_of_a_generation_says_which_columns_are_real():
    out = jd.generate(
        MODEL, [[3, 1], [4, 1, 5]], 7, sampler=tiny.PLAIN, max_new_tokens=[6, 2]
    )
    assert out.mask.dtype == bool
    assert out.mask.sum(axis=1).tolist() == [6, 2]
    np.testing.assert_array_equal(out.mask, np.asarray(out.model_logprobs) != 0.0)
    traced = jax.jit(lambda out: out.mask)(out)
    np.testing.assert_array_equal(traced, out.mask)


@pytest.mark.parametrize("samples", [1, 2])
def test_a_sequence_is_the_prompt_and_then_what_was_generated(samples):
    asked = {"max_new_tokens": [6, 2], "num_samples": samples, "pad_id": 9}
    asked["sampler"] = tiny.PLAIN
    out = jd.generate(MODEL, PROMPTS, 7, **asked)
    assert out.sequences.shape == (2 * samples, 3 + 6)
    for row, sequence in enumerate(out.sequences.tolist()):
        prompt = PROMPTS[row // samples]
        expected = prompt + out.tokens[row, : out.lengths[row]].tolist()
        assert sequence == expected + [9] * (9 - len(expected))
    assert (out.prompt_lengths + out.lengths).tolist()[0] == 8


def test_sequences_are_the_same_in_a_jit():
    pair = jnp.asarray([[3, 1, 0], [4, 1, 5]]), jnp.asarray([2, 3])

    def run(tokens, lengths):
        out = jd.generate(
            MODEL, (tokens, lengths), 7, sampler=tiny.PLAIN, max_new_tokens=5
        )
        return out.sequences

    np.testing.assert_array_equal(jax.jit(run)(*pair), run(*pair))


def test_samples_are_an_axis_on_request():
    out = jd.generate(
        MODEL, PROMPTS, 7, sampler=tiny.PLAIN, max_new_tokens=4, num_samples=3
    )
    apart = out.by_prompt(3)
    assert apart.tokens.shape == (2, 3, 4)
    assert apart.status.shape == (2, 3)
    assert apart.mask.shape == (2, 3, 4)
    for leaf, whole in (
        (apart.tokens, out.tokens),
        (apart.sequences, out.sequences),
        (apart.mask, out.mask),
    ):
        np.testing.assert_array_equal(leaf[1, 2], whole[5])
    with pytest.raises(ValueError, match=r"by_prompt: `num_samples`.*\(6\), got 4"):
        out.by_prompt(4)
