"""The statistics of whole rows are those of a plain loop over the entries."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxdecode.core.platform import CPU
from jaxdecode.native import is_available
from jaxdecode.sampling.stats import LARGE, chunk_maxima, row_stats
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


@pytest.fixture(params=["XLA", "kernel"])
def platform(request):
    if request.param == "XLA":
        return CPU
    if not is_available():
        pytest.skip("needs the kernels")
    return dataclasses.replace(CPU, kernels=True)


@functools.partial(jax.jit, static_argnums=(1, 2))
def stats_of(rows, platform, with_log_z=False):
    return row_stats(rows, platform=platform, with_log_z=with_log_z)


def by_hand(rows):
    return [(row < np.inf).all() and (row > -np.inf).any() for row in rows]


@pytest.mark.optimized
@pytest.mark.parametrize("with_log_z", [False, True])
@pytest.mark.parametrize("vocab_size", SIZES)
def test_a_row_is_valid_if_it_can_be_sampled(vocab_size, with_log_z, platform):
    rows = spoiled(vocab_size)
    found = stats_of(rows, platform, with_log_z)
    assert found.valid.tolist() == by_hand(rows)


@pytest.mark.optimized
def test_rows_of_finite_entries_are_valid(platform):
    assert stats_of(batch(384)[:3], platform).valid.all()


@pytest.mark.parametrize("vocab_size", SIZES)
def test_the_normaliser_is_the_log_of_the_sum(vocab_size, platform):
    rows = batch(vocab_size)
    exact = rows.astype(np.float64)
    exact = np.log(np.exp(exact - exact.max(axis=1, keepdims=True)).sum(axis=1))
    found = stats_of(rows, platform, True)
    np.testing.assert_allclose(found.log_z, exact, rtol=1e-6, atol=1e-6)


def test_the_kernel_finds_the_maxima_of_the_chunks():
    if not is_available():
        pytest.skip("needs the kernels")
    for size in (LARGE, LARGE + 1, 5003):
        rows = spoiled(size)
        found = stats_of(rows, dataclasses.replace(CPU, kernels=True))
        for row, maxima in zip(rows, found.maxima, strict=True):
            chunks = [row[at : at + 128] for at in range(0, size, 128)]
            wanted = [np.fmax.reduce(chunk, initial=-np.inf) for chunk in chunks]
            assert maxima.tolist() == wanted


@pytest.mark.parametrize("vocab_size", [384, 5003])
def test_the_slope_of_a_logprob_is_that_of_log_softmax(vocab_size, platform):
    rows = batch(vocab_size)[:3]
    tokens = np.asarray([3, 200, 7])

    def total(rows):
        stats = row_stats(rows, platform=platform, with_log_z=True)
        return stats.logprob_of(rows[np.arange(3), tokens]).sum()

    def plainly(rows):
        return jax.nn.log_softmax(rows)[np.arange(3), tokens].sum()

    np.testing.assert_allclose(
        jax.jit(jax.grad(total))(rows),
        jax.jit(jax.grad(plainly))(rows),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_last_chunk_that_is_not_full_has_the_maximum_of_what_it_holds():
    row = -np.arange(1, 301, dtype=np.float32)
    assert chunk_maxima(row).tolist() == [-1, -129, -257]
