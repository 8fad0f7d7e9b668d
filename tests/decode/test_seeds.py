"""The rule of `key`: one is a batch's, a list holds one for each row."""

import jax
import numpy as np

import jaxdecode as jd
from tests.models.toys import SIZES, batched, make_params

MODEL = jd.from_logits_function(batched, make_params(), **SIZES)


def test_one_seed_is_a_batchs_and_a_list_holds_one_for_each_row():
    prompts = [[3, 1], [4, 1, 5]]
    both = jd.generate(MODEL, prompts, 7, max_new_tokens=6).tokens
    key = jax.random.key(7)
    for row, prompt in enumerate(prompts):
        own = [jax.random.fold_in(key, row)]
        alone = jd.generate(MODEL, [prompt], own, max_new_tokens=6)
        np.testing.assert_array_equal(alone.tokens[0], both[row])
    one = jd.generate(MODEL, prompts[:1], 7, max_new_tokens=6).tokens
    np.testing.assert_array_equal(one[0], both[0])
    listed = jd.generate(MODEL, prompts, [7, 9], max_new_tokens=6).tokens
    for row, seed in enumerate([7, 9]):
        alone = jd.generate(MODEL, [prompts[row]], [seed], max_new_tokens=6)
        np.testing.assert_array_equal(alone.tokens[0], listed[row])
    assert (np.asarray(listed[0]) != np.asarray(one[0])).any()


def test_the_mask_of_a_generation_says_which_columns_are_real():
    out = jd.generate(MODEL, [[3, 1], [4, 1, 5]], 7, max_new_tokens=[6, 2])
    assert out.mask.dtype == bool
    assert out.mask.sum(axis=1).tolist() == [6, 2]
    np.testing.assert_array_equal(out.mask, np.asarray(out.model_logprobs) != 0.0)
    traced = jax.jit(lambda out: out.mask)(out)
    np.testing.assert_array_equal(traced, out.mask)
