"""What a sweep over whole rows says is what a look at every entry says."""

import jax
import numpy as np
import pytest

from jaxdecode.sampling.sweep import chunk_maxima, sweep
from tests.rows import batch

SIZES = [37, 384, 5003]


def spoiled(vocab_size):
    """Rows of every kind, and rows that hold what a row must not hold."""
    rows = np.concatenate([batch(vocab_size)] * 2)
    rows[1, 7] = np.nan
    rows[3, -1] = np.inf
    rows[5] = -np.inf
    rows[6, 0], rows[6, 1] = np.nan, np.inf
    rows[8] = np.nan
    rows[9] = np.where(np.arange(vocab_size) == 5, np.nan, -np.inf)
    rows[10] = np.where(np.arange(vocab_size) == 5, np.float32(-3e38), -np.inf)
    return rows


def by_hand(rows):
    return [(row < np.inf).all() and (row > -np.inf).any() for row in rows]


@pytest.mark.optimized
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("vocab_size", SIZES)
def test_a_row_is_valid_if_it_can_be_sampled(vocab_size, weighed):
    rows = spoiled(vocab_size)
    found = jax.jit(sweep, static_argnames="weighed")(rows, weighed=weighed)
    assert found.valid.tolist() == by_hand(rows)


@pytest.mark.optimized
def test_rows_of_finite_entries_are_valid():
    assert jax.jit(sweep)(batch(384)[:3]).valid.all()


@pytest.mark.parametrize("vocab_size", SIZES)
def test_the_normaliser_is_the_log_of_the_sum(vocab_size):
    rows = batch(vocab_size)
    exact = rows.astype(np.float64)
    exact = np.log(np.exp(exact - exact.max(axis=1, keepdims=True)).sum(axis=1))
    found = jax.jit(sweep, static_argnames="weighed")(rows, weighed=True)
    np.testing.assert_allclose(found.log_z, exact, rtol=1e-6, atol=1e-6)


def test_the_slope_of_a_share_is_that_of_log_softmax():
    rows = batch(384)[:3]
    tokens = np.asarray([3, 200, 7])

    def share(rows):
        return sweep(rows, weighed=True).share(tokens).sum()

    def plainly(rows):
        return jax.nn.log_softmax(rows)[np.arange(3), tokens].sum()

    np.testing.assert_allclose(
        jax.grad(share)(rows), jax.grad(plainly)(rows), rtol=1e-5, atol=1e-6
    )


def test_a_last_chunk_that_is_not_full_has_the_maximum_of_what_it_holds():
    row = -np.arange(1, 301, dtype=np.float32)
    assert chunk_maxima(row).tolist() == [-1, -129, -257]
