"""One order everywhere: value descending, then id ascending."""

import functools

import jax
import numpy as np
import pytest

from jaxdecode.native import is_available
from jaxdecode.sampling.order import arg_max, sort, top_k
from tests.rows import kinds

VOCAB = 5003
KINDS = kinds(VOCAB)
KINDS["signed zeros"] = np.where(np.arange(VOCAB) % 3 == 0, -0.0, 0.0).astype("f4")
KINDS["zeros below"] = -np.abs(np.round(KINDS["normal"])) + np.float32(0)


@functools.partial(jax.jit, static_argnums=(1, 2))
def best(row, k, native):
    del native  # the environment says it, too
    return top_k(row, k)


def by_hand(row):
    return np.lexsort((np.arange(VOCAB), -row.astype(np.float64)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_sorted_row_is_ordered_by_value_then_id(kind):
    values, ids = jax.jit(sort)(KINDS[kind])
    assert ids.tolist() == by_hand(KINDS[kind]).tolist()
    assert np.array_equal(values, KINDS[kind][ids])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 5, 17, 300, 1024])
def test_the_k_best_are_a_prefix_of_the_sorted_row(kind, k):
    values, ids = best(KINDS[kind], k, is_available())
    order = by_hand(KINDS[kind])[:k]
    assert ids.tolist() == order.tolist()
    assert np.array_equal(values, KINDS[kind][order])


@pytest.mark.usefixtures("way")
def test_the_k_best_of_many_rows_have_slopes_and_no_negative_zero():
    rows = np.stack([KINDS["normal"], KINDS["signed zeros"], KINDS["zeros below"]])
    weights = np.arange(1.0, 8.0, dtype=np.float32)

    def weighed(rows):
        values, ids = jax.vmap(lambda row: top_k(row, 7))(rows)
        return (values * weights[None]).sum(), (values, ids)

    slope, (values, ids) = jax.jit(jax.grad(weighed, has_aux=True))(rows)
    assert not np.signbit(values[1:]).any()
    for row, best in enumerate(ids):
        assert best.tolist() == by_hand(rows[row])[:7].tolist()
        assert (slope[row] != 0).sum() == 7 or row > 0  # a zero's slope may be dropped
    assert slope[0, ids[0]].tolist() == weights.tolist()


@pytest.mark.skipif(not is_available(), reason="needs the kernels")
@pytest.mark.parametrize("k", [1, 64, 5003])
def test_a_row_with_nan_gives_indices_of_the_row(k):
    row = np.where(np.arange(VOCAB) % 2 == 0, np.nan, KINDS["normal"]).astype("f4")
    _, ids = best(row, k, is_available())
    assert ids.shape == (k,)
    assert ((ids >= 0) & (ids < VOCAB)).all()


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
