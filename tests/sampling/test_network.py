"""The sorting network gives the order that everything else gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core.platform import GPU, TPU
from jaxdecode.sampling.network import network_sort
from jaxdecode.sampling.order import sort, top_k
from tests.rows import kinds

VOCAB = 5003
KINDS = kinds(VOCAB)
KINDS["signed zeros"] = np.where(np.arange(VOCAB) % 3 == 0, -0.0, 0.0).astype("f4")


@pytest.mark.parametrize("size", [1, 2, 37, 128, 129, VOCAB])
def test_words_are_sorted_and_equal_ones_keep_their_order(size):
    words = np.random.default_rng(size).integers(0, 50, size).astype(np.uint32)
    words[:: max(size // 3, 1)] = 0xFFFFFFFF  # what fills up the row must stay behind
    got, places = jax.jit(network_sort)(words)
    expected = np.argsort(words, kind="stable")
    assert places.tolist() == expected.tolist()
    assert got.tolist() == words[expected].tolist()


def test_rows_are_sorted_by_value_then_id_on_an_accelerator():
    rows = np.stack(list(KINDS.values()))
    values, ids = jax.jit(jax.vmap(lambda row: sort(row, platform=TPU)))(rows)
    for row, got, order in zip(rows, np.asarray(values), ids, strict=True):
        expected = np.lexsort((np.arange(VOCAB), -row.astype(np.float64)))
        assert order.tolist() == expected.tolist()
        assert np.array_equal(got, row[expected])


@pytest.mark.parametrize("platform", [GPU, TPU], ids=lambda p: p.kind)
def test_the_best_of_a_row_are_a_prefix_of_the_sorted_row(platform):
    rows = np.stack(list(KINDS.values()))
    _, ids = jax.jit(jax.vmap(lambda row: top_k(row, 64, platform=platform)))(rows)
    for row, best in zip(rows, ids, strict=True):
        expected = np.lexsort((np.arange(VOCAB), -row.astype(np.float64)))
        assert best.tolist() == expected[:64].tolist()


def test_the_slope_of_a_sorted_row_goes_to_where_each_entry_stood():
    row = np.random.default_rng(0).normal(size=37).astype(np.float32)
    weight = np.arange(37, dtype=np.float32)
    total = jax.grad(lambda row: jnp.sum(sort(row, platform=TPU)[0] * weight))
    slope = jax.jit(total)(row)
    expected = np.empty(37, np.float32)
    expected[np.argsort(-row)] = weight
    assert slope.tolist() == expected.tolist()
