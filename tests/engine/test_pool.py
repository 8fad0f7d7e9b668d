"""How many steps a chunk has, by what its rows may still write."""

from types import SimpleNamespace

import numpy as np

from jaxdecode.engine.pool import LEAST, Pool


def test_a_chunk_ends_with_a_budget_while_requests_wait():
    pool = Pool(None, 3)
    assert pool.steps(8, is_awaited=True) == 8  # no slot has an owner
    for slot, budget in enumerate((5, 30, 9)):
        pool.put(slot, SimpleNamespace(asked=SimpleNamespace(budget=budget)), None)
    assert pool.steps(8, is_awaited=False) == 8
    assert pool.steps(8, is_awaited=True) == 5
    pool.left -= np.asarray([4, 4, 4])
    assert pool.steps(8, is_awaited=True) == 8 // LEAST  # 1 is left
    pool.owners[0] = None
    assert pool.steps(8, is_awaited=True) == 5
    assert pool.steps(1, is_awaited=True) == 1
