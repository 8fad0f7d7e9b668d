"""Noise by token id, its bound, and the draw that looks at bounds first."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core.platform import CPU
from jaxdecode.native import (
    current_platform,
    is_available,
    noise_bits,
    noisy_candidates,
)
from jaxdecode.sampling.noise import gumbel, gumbel_at, gumbel_bound
from jaxdecode.sampling.stats import CHUNK, chunk_maxima
from jaxdecode.sampling.whole import gumbel_max
from tests.rows import kinds

VOCAB = 5003
KINDS = kinds(VOCAB)
KINDS["one left"] = np.where(np.arange(VOCAB) == 4711, 1.0, -np.inf).astype("f4")
KINDS["huge"] = 1e30 * KINDS["normal"]
KINDS["huge ties"] = np.full(VOCAB, 1e30, np.float32)
native = pytest.mark.skipif(not is_available(), reason="needs the kernels")


def drawn(*given):
    return gumbel_max(*given, platform=current_platform())


def test_noise_by_id_is_that_of_jax():
    key, ids = jax.random.key(7), np.asarray([5002, 0, 4, 4], np.int32)
    whole = jax.random.gumbel(key, (VOCAB,), jnp.float32)
    assert gumbel_at(key, ids, VOCAB).tolist() == whole[ids].tolist()


def test_no_noise_exceeds_its_bound_which_is_near():
    """For every number that noise is made of: 23 bits."""
    bits = jnp.arange(2**23, dtype=jnp.uint32) << np.uint32(9)
    noise, bound = map(np.asarray, (jax.jit(gumbel)(bits), jax.jit(gumbel_bound)(bits)))
    above = bound - noise
    assert above.min() > 5e-5, "half of the slack is left"
    assert above[noise >= 2].max() < 0.14


@native
@pytest.mark.parametrize("count", [1, 7, 16, 37])
def test_noise_by_the_kernel_is_that_of_jax(count):
    ids = np.random.default_rng(count).integers(0, VOCAB, (3, count)).astype(np.int32)
    keys = jax.random.split(jax.random.key(7), 3)
    by_kernel = jax.vmap(lambda key, ids: noise_bits(jax.random.key_data(key), ids))
    for key, row, found in zip(keys, ids, by_kernel(keys, ids), strict=True):
        assert found.tolist() == jax.random.bits(key, (VOCAB,))[row].tolist()


def test_noise_is_the_double_logarithm_but_for_half_of_what_the_kernel_allows():
    """For every number that noise is made of: 23 bits."""
    numbers = np.arange(2**23, dtype=np.uint32)
    noise = np.asarray(jax.jit(gumbel)(numbers << np.uint32(9)), np.float64)
    exact = -np.log(-np.log(np.maximum(numbers * 2.0**-23, 2.0**-126)))
    assert np.abs(noise - exact).max() < 2.5e-5  # NOISE_SLACK in noise.h is 5e-5


@native
@pytest.mark.parametrize("k", [1, 2, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_score_is_among_the_candidates(kind, k):
    """From any place on, unless it does not exceed what was reached before."""
    row, rest = KINDS[kind], np.arange(VOCAB)
    maxima, reached = chunk_maxima(jnp.asarray(row)), -np.float32(np.inf)
    for seed in range(3):
        key, start, found = jax.random.key(seed), 0, []
        scores = row + np.asarray(jax.random.gumbel(key, (VOCAB,), jnp.float32))
        while start < VOCAB:
            given = row, maxima, jax.random.key_data(key), np.int32(start), reached
            ids, bits, start = noisy_candidates(*given, chunk=CHUNK, k=k)
            found += [i for i in ids.tolist() if i < VOCAB]
            wanted = jax.random.bits(key, (VOCAB,))[ids[ids < VOCAB]]
            assert bits[ids < VOCAB].tolist() == wanted.tolist()
            before = rest < int(start)
            assert int(np.argmax(np.where(before, scores, -np.inf))) in (0, *found)
        assert int(np.argmax(scores)) in found
        assert found == sorted(set(found))
        assert len(found) < 9 or k < 64, "hardly more than one"
        given = row, maxima, jax.random.key_data(key), np.int32(0), scores.max()
        beyond, _, start = noisy_candidates(*given, chunk=CHUNK, k=k)
        assert (scores[beyond[beyond < VOCAB]] > scores.max() - 1e-3).all()
        assert int(start) == VOCAB


@native
@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_that_has_to_go_on_is_the_same_draw(kind, monkeypatch):
    monkeypatch.setattr("jaxdecode.sampling.whole.CANDIDATES", 1)
    rows = jnp.asarray(np.broadcast_to(KINDS[kind], (64, VOCAB)))
    keys = jax.random.split(jax.random.key(1), 64)
    tokens, _ = jax.jit(drawn)(rows, keys, chunk_maxima(rows))
    assert tokens.tolist() == jax.vmap(jax.random.categorical)(keys, rows).tolist()


@pytest.mark.parametrize("near", [0, 7, 39])
def test_without_kernels_it_matters_not_where_the_draw_looks_first(near):
    rows = jnp.asarray(np.broadcast_to(KINDS["normal"], (16, VOCAB)))
    keys = jax.random.split(jax.random.key(2), 16)
    first = jnp.zeros((16, 40), jnp.float32).at[:, near].set(1.0)
    tokens, _ = jax.jit(functools.partial(gumbel_max, platform=CPU))(rows, keys, first)
    assert tokens.tolist() == jax.vmap(jax.random.categorical)(keys, rows).tolist()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_by_bounds_is_categorical(kind):
    rows = jnp.asarray(np.broadcast_to(KINDS[kind], (64, VOCAB)))
    keys = jax.random.split(jax.random.key(1), 64)
    tokens, values = jax.jit(drawn)(rows, keys, chunk_maxima(rows))
    wanted = jax.vmap(jax.random.categorical)(keys, rows)
    assert tokens.tolist() == wanted.tolist()
    assert values.tolist() == KINDS[kind][tokens].tolist()


@pytest.mark.usefixtures("way")
def test_a_row_without_an_allowed_token_ends_too():
    rows = jnp.stack([jnp.full((VOCAB,), -jnp.inf), jnp.full((VOCAB,), jnp.nan)])
    keys = jax.random.split(jax.random.key(1), 2)
    tokens, _ = jax.jit(drawn)(rows, keys, chunk_maxima(rows))
    assert ((tokens >= 0) & (tokens < VOCAB)).all()


def test_the_value_that_was_drawn_has_a_slope():
    row = jnp.asarray(KINDS["normal"])[None]
    keys = jax.random.split(jax.random.key(1), 1)
    slope = jax.grad(lambda row: drawn(row, keys, chunk_maxima(row))[1].sum())(row)
    assert (
        np.flatnonzero(slope).tolist()
        == drawn(row, keys, chunk_maxima(row))[0].tolist()
    )
