"""Step keys are `fold_in` of row keys, whatever kind of key it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core.keys import step_keys


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
