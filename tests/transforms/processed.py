"""Rows with histories, and what a sampler makes of them."""

import numpy as np

import jaxdecode as jd
from tests.rows import V

ROWS = 24


def scores(seed=0, rows=ROWS, vocab=V):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, vocab)) * 3).astype(np.float32)


def histories(seed=0, rows=ROWS, vocab=V):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, (2, rows))
    return [[rng.integers(0, vocab, n).tolist() for n in kind] for kind in sizes]


def applied(sampler, rows, prompts, generated, key=None):
    return np.asarray(
        jd.apply(sampler, rows, prompts=prompts, generated=generated, key=key)
    )
