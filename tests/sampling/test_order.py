"""One order everywhere: value descending, then id ascending."""

import jax
import numpy as np
import pytest

from jaxdecode.sampling.order import arg_max, sort, top_k
from tests.rows import kinds

VOCAB = 5003
KINDS = kinds(VOCAB)
KINDS["signed zeros"] = np.where(np.arange(VOCAB) % 3 == 0, -0.0, 0.0).astype("f4")
KINDS["zeros below"] = -np.abs(np.round(KINDS["normal"])) + np.float32(0)


def by_hand(row):
    return np.lexsort((np.arange(VOCAB), -row.astype(np.float64)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_sorted_row_is_ordered_by_value_then_id(kind):
    values, ids = jax.jit(sort)(KINDS[kind])
    assert ids.tolist() == by_hand(KINDS[kind]).tolist()
    assert np.array_equal(values, KINDS[kind][ids])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 5, 17, 300])
def test_the_k_best_are_a_prefix_of_the_sorted_row(kind, k):
    values, ids = jax.jit(top_k, static_argnums=1)(KINDS[kind], k)
    order = by_hand(KINDS[kind])[:k]
    assert ids.tolist() == order.tolist()
    assert np.array_equal(values, KINDS[kind][order])


@pytest.mark.parametrize("kind", KINDS)
def test_arg_max_by_chunks_takes_the_first_maximum(kind):
    assert int(jax.jit(arg_max)(KINDS[kind])) == int(np.argmax(KINDS[kind]))


def test_a_row_of_signed_zeros_has_one_maximum_by_any_way():
    row = KINDS["signed zeros"]
    assert int(sort(row)[1][0]) == int(top_k(row, 5)[1][0]) == int(arg_max(row)) == 0


def test_sorted_values_have_slopes():
    weights = np.arange(VOCAB, dtype=np.float32)
    slope = jax.grad(lambda row: (sort(row)[0] * weights).sum())(KINDS["normal"])
    assert slope[by_hand(KINDS["normal"])].tolist() == weights.tolist()
