"""A token is banned if and only if no match can be ended after it within the budget."""

import random

import numpy as np
import pytest

import jaxdecode as jd
from tests.reference.patterns import Oracle
from tests.transforms.patterns.samples import (
    COLUMNS,
    EOS,
    PATTERNS,
    ROWS,
    TOKENS,
    fitting,
    links,
)

PLENTY = 2**30
REACH = 6  # tokens of budget that the oracle looks ahead


def walks(oracle, rng):
    """Return texts of which most go on to a match, and some do not."""
    found = []
    for count in range(ROWS):
        text, place = [], oracle.start
        for _ in range(rng.randrange(COLUMNS)):
            nexts = [t for t in range(len(TOKENS)) if oracle.next(place, t)]
            if not nexts:
                break
            text.append(rng.choice(nexts))
            place = oracle.next(place, text[-1])
        if count % 10 == 0:
            text = [*text, rng.randrange(len(TOKENS))][-COLUMNS:]
        found.append(text)
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_token_fits_if_and_only_if_a_match_can_be_ended_after_it(pattern):
    oracle, rng = Oracle(pattern, TOKENS, EOS), random.Random(pattern)
    texts = walks(oracle, rng)
    lefts = [rng.randint(1, REACH) for _ in texts]
    budgets = [len(text) + left for text, left in zip(texts, lefts, strict=True)]
    tight = fitting(links()[pattern], texts, budgets)
    plain = fitting(links()[pattern], texts, [PLENTY] * len(texts))
    for text, left, row, free in zip(texts, lefts, tight, plain, strict=True):
        place = oracle.after(text)
        assert set(np.flatnonzero(row)) == oracle.fits(place, left), (text, left)
        alive = {t for t in range(len(TOKENS)) if place and oracle.next(place, t)}
        alive |= {EOS} if place and oracle.ends(place) else set()
        assert set(np.flatnonzero(free)) == alive, text


def test_a_way_that_the_tokens_cannot_finish_is_banned():
    link = jd.Regex(r"a(bx|0)|b(y|1)?", TOKENS, eos_ids=EOS)  # no token spells x or y
    rows = fitting(link, [[], [0], [1]], [PLENTY] * 3)
    spelled = [{TOKENS[i] for i in np.flatnonzero(row)} for row in rows]
    assert spelled == [{b"a", b"b"}, {b"0"}, {b"1", TOKENS[EOS]}]
