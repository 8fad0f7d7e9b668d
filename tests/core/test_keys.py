"""Step keys are `fold_in` of row keys, whatever kind of key it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core.keys import prompt_keys, step_keys
from jaxdecode.testing import count_compiles


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_step_keys_are_jaxs_own_fold_in(kind):
    keys = jax.random.split(jax.random.key(11, impl=kind), 4)
    positions = jnp.asarray([0, 1, 8191, 2**31 - 1], jnp.int32)
    expected = jax.vmap(jax.random.fold_in)(keys, positions)
    found = step_keys(keys, positions)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(
        jax.random.key_data(found), jax.random.key_data(expected)
    )


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_one_key_is_folded_for_each_row_known_or_traced(kind):
    key = jax.random.key(11, impl=kind)
    rows = jnp.arange(3)
    expected = jax.random.key_data(
        jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
    )

    def found(key):
        return jax.random.key_data(prompt_keys("test", key, len(rows)))

    np.testing.assert_array_equal(found(key), expected)
    np.testing.assert_array_equal(jax.jit(found)(key), expected)


def test_a_seed_for_many_rows_needs_no_program():
    jax.clear_caches()
    with count_compiles() as count:
        prompt_keys("test", 7, 3)
    assert count.count == 0, count.names
