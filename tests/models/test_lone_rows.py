"""A lone row's product with few outputs is a sum on CUDA; nothing else shows.

Programs for the CPU are lowered as those for CUDA would be.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.models import lone_rows
from jaxdecode.models.matrix import matmul

INPUTS, OUTPUTS = 41, 13
generator = np.random.default_rng(5)
ROW, OTHER = (
    jnp.asarray(generator.normal(size=(1, INPUTS)), jnp.float32) for _ in range(2)
)
WEIGHT = jnp.asarray(generator.normal(size=(OUTPUTS, INPUTS)), jnp.bfloat16)


@pytest.fixture(autouse=True)
def _as_on_cuda(monkeypatch):
    def chosen(kinds, trick, plain, *args):
        return (trick if "cuda" in kinds else plain)(*args)

    monkeypatch.setattr(lone_rows, "lowered_for", chosen)


def made(function, *args):
    """Return what a function computes, as text; traced anew."""
    return str(jax.make_jaxpr(lambda *given: function(*given))(*args))


def test_a_lone_row_is_multiplied_by_a_sum():
    rounded = np.asarray(ROW.astype(jnp.bfloat16), np.float64)
    expected = rounded @ np.asarray(WEIGHT, np.float64).T
    np.testing.assert_allclose(matmul(ROW, WEIGHT), expected, rtol=1e-5, atol=1e-5)
    assert "dot_general" not in made(matmul, ROW, WEIGHT)


@pytest.mark.parametrize("change", ["rows", "type", "outputs"])
def test_any_other_product_stays_one(change, monkeypatch):
    row, weight = ROW, WEIGHT
    if change == "rows":
        row = jnp.concatenate([ROW, OTHER])
    elif change == "type":
        weight = WEIGHT.astype(jnp.float32)
    else:
        monkeypatch.setattr(lone_rows, "OUTPUTS_FEW", OUTPUTS - 1)
    assert "dot_general" in made(matmul, row, weight)


def test_rows_of_a_vmap_share_the_matrix_in_a_product():
    rows = jnp.stack([ROW, OTHER])
    each = jax.vmap(matmul, (0, None))
    text = made(each, rows, WEIGHT)
    assert "dot_general" in text
    assert f"[2,{OUTPUTS},{INPUTS}]" not in text.replace(" ", "")
    expected = matmul(rows[:, 0], WEIGHT)[:, None]
    np.testing.assert_allclose(each(rows, WEIGHT), expected, rtol=1e-6, atol=1e-6)


def test_matrices_of_a_vmap_are_each_multiplied():
    weights = jnp.stack([WEIGHT, 2 * WEIGHT])
    found = jax.vmap(matmul, (None, 0))(ROW, weights)
    expected = [matmul(ROW, weight) for weight in weights]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_slopes_are_those_of_the_product():
    def loss(row, weight):
        return jnp.sum(matmul(row, weight)[:1] ** 2)

    slopes = jax.grad(loss, argnums=(0, 1))
    found = slopes(ROW, WEIGHT)
    pair = jnp.concatenate([ROW, jnp.zeros_like(ROW)])
    expected = slopes(pair, WEIGHT)
    np.testing.assert_allclose(found[0], expected[0][:1], rtol=2**-7)
    both = (np.asarray(x[1], np.float32) for x in (found, expected))
    np.testing.assert_allclose(*both, rtol=2**-6, atol=1e-6)
