"""Without a sampler a token is drawn from the model's own distribution, as it stands."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode import trace
from jaxdecode.testing import count_compiles
from tests import tiny
from tests.engine.engine_cases import engine

PROMPTS = [[3, 1], [4, 1, 5], [9]]


@pytest.mark.parametrize("poison", [{}, {5: np.nan, 6: -np.inf}], ids=["sound", "bad"])
def test_rows_are_those_of_neutral_links(poison):
    model = tiny.bag(poison=poison)
    asked = {"max_new_tokens": 12, "num_samples": 2, "observe": ["kept", "rank"]}
    found = jd.generate(model, PROMPTS, 7, **asked)
    neutral = jd.generate(model, PROMPTS, 7, sampler=jd.joint(), **asked)
    for mine, theirs in zip(*map(jax.tree.leaves, (found, neutral)), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert set(found.status.tolist()) == ({2, 4} if poison else {2})


def test_the_program_is_that_of_no_links():
    def size(sampler):
        asked = {"sampler": sampler, "max_new_tokens": 4}
        return str(trace(tiny.bag(), PROMPTS, 7, **asked).jaxpr).count("\n")

    assert size(None) == size(jd.chain()) < size(jd.joint()) / 1.5


def test_requests_with_and_without_a_sampler_share_a_pool():
    to = engine()
    to.submit("abc", key=1, sampler=jd.joint(top_k=5), max_new_tokens=3).result()
    with count_compiles() as compiles:
        to.submit("abc", key=1, max_new_tokens=3).result()
    assert compiles.count == 0, compiles.names
