"""Rows of one chain may each have tables of their own, and bring them along."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.rows import Bank, own_tables, put_rows, repeat_rows, take_rows
from jaxdecode.sampling import init_rows, process, sample
from jaxdecode.sampling.calls import _contexts
from tests.rows import V, batch

ROWS = batch()[:4]
PAST = [[1, 2, 1, 2, 5, 1], [3, 4, 3], [7, 7, 7, 7, 2], [0, 1, 0, 1, 0]]
BIASES = np.random.default_rng(5).normal(size=(4, V)).astype(np.float32)


def sampler(row):
    """The sampler of one row: the same links, other tables and parameters."""
    words = [[((2,), 1.0), ((1, 2), -3.0)], [((3, 4), 2.0)], [((7, 9), -1.0)], []]
    breakers = [[5], [4], [], [1, 0]]
    return jd.chain(
        jd.LogitBias(BIASES[row]),
        jd.LogitBias({row: 2.5, 30: -1.0}),
        jd.BanTokens([[1], [9, 12], [], [20]][row]),
        jd.SequenceBias(words[row]),
        jd.BanSequences([[[2, 5], [1, 6]], [[3, 8]], [], [[0, 11]]][row]),
        jd.DRY(0.5 + row, 1.2, 1, breakers=breakers[row]),
        jd.MinNewTokens(row * 3, [6 + row]),
        jd.ForcedTokens({[40, 3, 40, 40][row]: 5 + row}),
        jd.TopP([0.9, 0.5, 1.0, 0.8][row]),
        jd.Temperature([1.0, 0.7, 1.5, 0.9][row]),
    )


def together(order=(0, 1, 2, 3)):
    """One chain whose rows were put in one after another."""
    chain = own_tables(sampler(order[0]).per_row(1, len(order)))
    for place, row in enumerate(order):
        chain = put_rows(chain, place, sampler(row).per_row(1))
    return chain


@jax.jit
def run(chain, rows, contexts):
    return process(chain, rows, contexts, init_rows(chain, contexts))


def processed(chain, rows, past):
    return np.asarray(run(chain, rows, _contexts("test", rows, None, past, None)))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 1, 0)])
def test_rows_with_tables_of_their_own_are_processed_as_if_alone(order):
    rows, past = ROWS[list(order)], [PAST[row] for row in order]
    got = processed(together(order), rows, past)
    for place, row in enumerate(order):
        alone = jd.apply(sampler(row), ROWS[row][None], generated=[PAST[row]])[0]
        assert np.array_equal(np.isinf(got[place]), np.isinf(alone))
        np.testing.assert_allclose(got[place], alone, rtol=1e-6, atol=1e-6)


def test_taken_rows_bring_their_tables_along():
    index = np.asarray([2, 0, 2], np.int32)
    got = processed(take_rows(together(), index), ROWS[index], [PAST[i] for i in index])
    expected = processed(together(), ROWS, PAST)[index]
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_a_chain_per_row_has_one_table_for_all_rows_until_it_is_asked_for_more():
    chain = sampler(0).per_row(3, 2)
    banks = [v for x in chain.links for v in vars(x).values() if isinstance(v, Bank)]
    assert len(banks) == 11  # every field that is not one value per row
    for bank in banks:
        assert bank.entry.tolist() == [0] * 6
        assert all(len(leaf) == 1 for leaf in jax.tree.leaves(bank.tables))


def test_a_single_table_is_not_copied_for_each_row():
    chain = jd.chain(jd.LogitBias(BIASES[0])).per_row(3)
    contexts = _contexts("test", ROWS[:3], None, None, None)
    jaxpr = jax.make_jaxpr(lambda c, r: process(c, r, contexts, (None,)))(
        chain, ROWS[:3]
    )
    assert "gather" not in str(jaxpr)


def test_a_chain_with_banks_is_a_sampler_like_any_other():
    keys = jax.random.split(jax.random.key(4), 4)
    got = sample(together(), ROWS, keys)
    expected = [
        int(sample(sampler(row), ROWS[row][None], keys[row][None])[0])
        for row in range(4)
    ]
    assert got.tolist() == expected
    twice = sample(repeat_rows(together(), 2), ROWS[[0, 0, 1, 1, 2, 2, 3, 3]], 3)
    assert twice.shape == (8,)


def test_tables_of_their_own_cannot_be_saved_as_one():
    with pytest.raises(TypeError, match="LogitBias must have one table"):
        jd.to_dict(together())
