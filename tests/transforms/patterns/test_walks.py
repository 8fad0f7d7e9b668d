"""Random walks over twelve kinds of patterns, with budgets from the least one on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.pytree import pytree, static
from jaxdecode.transforms.patterns.lifting import START
from jaxdecode.transforms.patterns.tables import LEAST
from tests.transforms.patterns.kinds import EOS, TOKENS, check, links

KINDS = list(links())
COLUMNS = 256


@pytree
class Table:
    """A model whose logits depend on the last token only."""

    table: jax.Array
    vocab_size: int = static(default=len(TOKENS))
    max_length: int = static(default=COLUMNS + 16)

    def init_cache(self, rows, length):
        return jnp.zeros((rows, 1))

    def __call__(self, tokens, positions, cache, *, at=None):
        logits = jnp.asarray(self.table)[tokens]
        if at is not None:
            logits = jnp.take_along_axis(logits, at[:, None, None], axis=1)[:, 0]
        return logits, cache


def model():
    """Return a model that prefers words and, a little, to go on."""
    table = np.random.default_rng(0).normal(size=(len(TOKENS), len(TOKENS)))
    table[:, 256:] += 1.5
    table[:, 128:256] -= 3.0
    return Table(table.astype(np.float32))


def walk(name, rows, seed):
    link = links()[name]
    least = int(link.patterns.states[START, LEAST])
    more = np.random.default_rng(seed).integers(0, 40, rows)
    more[: rows // 5] = 0
    budget = np.minimum(least + more, COLUMNS)
    out = jd.generate(
        model(),
        [[0]] * rows,
        seed,
        sampler=jd.chain(link, jd.Temperature(1.0)),
        max_new_tokens=budget,
        eos_ids=EOS,
        new_tokens_max=COLUMNS,
    )
    assert (np.asarray(out.status) == jd.Status.EOS).all()
    assert (np.asarray(out.lengths) <= budget).all()
    for ids, length in zip(
        np.asarray(out.tokens), np.asarray(out.lengths), strict=True
    ):
        assert ids[length - 1] == EOS
        check(name, b"".join(TOKENS[i] for i in ids[: length - 1]).decode())


@pytest.mark.parametrize("name", KINDS)
def test_every_walk_is_a_whole_match_within_its_budget(name):
    walk(name, 20, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_ten_thousand_walks_are_whole_matches(name):
    walk(name, 834, 2)
