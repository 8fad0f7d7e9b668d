"""Slopes through links that scale: finite, banned tokens or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd

LINKS = {
    "dynamic temperature": jd.DynamicTemperature(0.5, 1.5, 1.0),
    "quadratic": jd.Quadratic(0.4, 1.5),
    "temperature": jd.Temperature(0.7),
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_a_banned_token_leaves_the_slopes_of_the_others_finite(link):
    row = jnp.asarray([[1.0, 0.5, -1.0, 2.0, 0.25]])
    sampler = jd.chain(jd.BanTokens([2]), link)
    weights = jnp.asarray([0.3, -1.0, 0.0, 0.7, 2.0])

    @jax.jit
    def total(logits):
        kept = jd.apply(sampler, logits)[0]
        return jnp.sum(jnp.where(kept > -jnp.inf, kept, 0.0) * weights)

    slopes = np.asarray(jax.jit(jax.grad(total))(row))[0]
    step = 1e-2
    for token in range(5):
        moved = step * np.eye(5, dtype=np.float32)[token][None]
        wanted = (total(row + moved) - total(row - moved)) / (2 * step)
        np.testing.assert_allclose(slopes[token], wanted, rtol=2e-2, atol=2e-3)
