"""bfloat16 words as uint16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.cache import from_bits, to_bits


def test_bits_of_bfloat16_are_the_upper_half_of_the_float32_bits():
    values = np.asarray([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(to_bits(jnp.asarray(values, jnp.bfloat16)), upper)


def test_every_word_survives_the_round_trip():
    words = jnp.arange(2**16, dtype=jnp.uint32).astype(jnp.uint16)
    np.testing.assert_array_equal(to_bits(from_bits(words)), words)


def test_a_gradient_through_the_bits_is_refused():
    def half(x):
        return from_bits(to_bits(x.astype(jnp.bfloat16))).astype(jnp.float32).sum()

    with pytest.raises(TypeError, match="with_slopes"):
        jax.grad(half)(jnp.ones((3,), jnp.float32))
