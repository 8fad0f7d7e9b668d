"""The rule of `key`: one is a batch's, a list holds one for each row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from tests import tiny
from tests.models.toys import SIZES, batched, make_params

MODEL = jd.from_logits_function(batched, make_params(), **SIZES)


def test_one_seed_is_a_batchs_and_a_list_holds_one_for_each_row():
    prompts = [[3, 1], [4, 1, 5]]
    both = jd.generate(MODEL, prompts, 7, sampler=tiny.PLAIN, max_new_tokens=6).tokens
    key = jax.random.key(7)
    for row, prompt in enumerate(prompts):
        own = [jax.random.fold_in(key, row)]
        alone = jd.generate(MODEL, [prompt], own, sampler=tiny.PLAIN, max_new_tokens=6)
        np.testing.assert_array_equal(alone.tokens[0], both[row])
    one = jd.generate(
        MODEL, prompts[:1], 7, sampler=tiny.PLAIN, max_new_tokens=6
    ).tokens
    np.testing.assert_array_equal(one[0], both[0])
    listed = jd.generate(
        MODEL, prompts, [7, 9], sampler=tiny.PLAIN, max_new_tokens=6
    ).tokens
    for row, seed in enumerate([7, 9]):
        alone = jd.generate(
            MODEL, [prompts[row]], [seed], sampler=tiny.PLAIN, max_new_tokens=6
        )
        np.testing.assert_array_equal(alone.tokens[0], listed[row])
    assert (np.asarray(listed[0]) != np.asarray(one[0])).any()


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, tuple])
def test_an_array_of_seeds_is_a_list_of_them(kind):
    prompts = [[3, 1], [4, 1, 5]]
    listed = jd.generate(
        MODEL, prompts, [7, 9], sampler=tiny.PLAIN, max_new_tokens=6
    ).tokens
    found = jd.generate(
        MODEL, prompts, kind([7, 9]), sampler=tiny.PLAIN, max_new_tokens=6
    ).tokens
    np.testing.assert_array_equal(found, listed)
    one = jd.generate(MODEL, prompts, 7, sampler=tiny.PLAIN, max_new_tokens=6).tokens
    found = jd.generate(
        MODEL, prompts, np.int64(7), sampler=tiny.PLAIN, max_new_tokens=6
    ).tokens
    np.testing.assert_array_equal(found, one)


def test_seeds_may_be_traced():
    prompts = [[3, 1], [4, 1, 5]]
    run = jax.jit(
        lambda key: (
            jd.generate(
                MODEL, prompts, key, sampler=tiny.PLAIN, max_new_tokens=6
            ).tokens
        )
    )
    for key in (7, [7, 9], [0, 2**31 - 1]):
        alone = jd.generate(
            MODEL, prompts, key, sampler=tiny.PLAIN, max_new_tokens=6
        ).tokens
        np.testing.assert_array_equal(run(jnp.asarray(key)), alone)


@pytest.mark.parametrize(
    "key",
    [
        np.asarray([7, -1]),
        jnp.asarray([-1, 7]),
        np.asarray([2**32, 1]),
        np.zeros((2, 3)),
    ],
)
def test_seeds_out_of_range_in_an_array_are_refused(key):
    with pytest.raises((ValueError, TypeError), match="generate: .*(seed|key)"):
        jd.generate(
            MODEL, [[3, 1], [4, 1, 5]], key, sampler=tiny.PLAIN, max_new_tokens=6
        )


def test_keys_whose_noise_depends_on_the_batch_are_refused():
    keys = jax.random.split(jax.random.key(0, impl="unsafe_rbg"), 2)
    for key in (keys, keys[0], list(keys)):
        with pytest.raises(ValueError, match="generate: `key` must.*unsafe_rbg"):
            jd.generate(
                MODEL, [[3, 1], [4, 1, 5]], key, sampler=tiny.PLAIN, max_new_tokens=6
            )


def test_a_row_has_its_text_alone_and_in_company_with_rbg_keys():
    prompts = [[3, 1], [4, 1, 5], [2, 2]]
    keys = jax.random.split(jax.random.key(0, impl="rbg"), 3)
    both = jd.generate(
        MODEL, prompts, keys, sampler=tiny.PLAIN, max_new_tokens=6
    ).tokens
    for row, prompt in enumerate(prompts):
        alone = jd.generate(
            MODEL, [prompt], keys[row : row + 1], sampler=tiny.PLAIN, max_new_tokens=6
        )
        np.testing.assert_array_equal(alone.tokens[0], both[row])
