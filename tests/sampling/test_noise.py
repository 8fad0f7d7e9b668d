"""Noise by token id, its bound, and the draw that looks at bounds first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.native import bound_maxima, current_platform, is_available
from jaxdecode.sampling.noise import gumbel, gumbel_at, gumbel_bound, gumbel_bound_at
from jaxdecode.sampling.stats import CHUNK, chunk_maxima, chunked
from jaxdecode.sampling.whole import gumbel_max
from tests.rows import kinds

VOCAB = 5003
KINDS = kinds(VOCAB)
KINDS["one left"] = np.where(np.arange(VOCAB) == 4711, 1.0, -np.inf).astype("f4")
KINDS["huge"] = 1e30 * KINDS["normal"]


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


@pytest.mark.skipif(not is_available(), reason="needs the kernels")
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_by_the_kernel_are_the_same_bounds(kind):
    keys = jax.random.split(jax.random.key(5), 3)
    row, reached = jnp.asarray(KINDS[kind]), -jnp.float32(jnp.inf)
    got = jax.jit(
        jax.vmap(
            lambda key: bound_maxima(row, jax.random.key_data(key), reached, CHUNK)
        )
    )(keys)
    ids = jnp.arange(chunked(row).size, dtype=jnp.int32).reshape(-1, CHUNK)
    for key, found in zip(keys, got, strict=True):
        wanted = np.max(chunked(row) + gumbel_bound_at(key, ids), axis=1)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=2e-5)


@pytest.mark.skipif(not is_available(), reason="needs the kernels")
def test_a_chunk_is_passed_over_only_if_no_score_of_it_comes_up_to_what_is_reached():
    row = jnp.asarray(KINDS["normal"])
    key = jax.random.key_data(jax.random.key(3))
    most = jnp.max(chunked(row), axis=1)
    for above in (15.9, 16.1):  # the largest noise of all is 15.94
        reached = jnp.median(most) + jnp.float32(above)
        bounds = bound_maxima(row, key, reached, CHUNK)
        passed = np.asarray(bounds == -jnp.inf)
        assert passed.tolist() == (most + 16 < reached).tolist()
        assert 0 < passed.sum() < len(passed)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("near", [0, 7, 39])
def test_where_the_draw_looks_first_changes_nothing(near):
    rows = jnp.asarray(np.broadcast_to(KINDS["normal"], (16, VOCAB)))
    keys = jax.random.split(jax.random.key(2), 16)
    first = jnp.zeros((16, 40), jnp.float32).at[:, near].set(1.0)
    tokens, _ = jax.jit(drawn)(rows, keys, first)
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
