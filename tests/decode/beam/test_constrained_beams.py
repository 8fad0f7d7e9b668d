"""Required phrases: hypotheses hold them, and beams are dealt as in plain loops."""

import numpy as np
import pytest

from jaxdecode.decode.beam import beam_search
from tests.decode.beam.decay import agree, decay, hypotheses, logprobs_of
from tests.reference.beam import constrained_beam_search

V = 11
PROMPTS = [[3, 1, 4], [7], [1, 5, 9, 2, 6]]
MODEL = decay(V)
REQUIRED = {
    "one word": [[8]],
    "two words": [[8], [0]],
    "a phrase": [[8, 3, 8]],
    "a phrase and a word": [[5, 9], [6]],
    "phrases that overlap": [[1, 2, 1, 3], [2, 1, 2]],
    "one within another": [[4, 6, 7], [6]],
}


@pytest.fixture(scope="module")
def every_kind():
    """Every kind for every prompt, in one search: rows do not know of each other."""
    return beam_search(
        MODEL, PROMPTS * len(REQUIRED), num_beams=5, max_new_tokens=9, num_return=5,
        eos_ids=[10], required=[p for p in REQUIRED.values() for _ in PROMPTS],
    )  # fmt: skip


@pytest.mark.parametrize("kind", REQUIRED)
def test_hypotheses_are_those_of_the_plain_loop(every_kind, kind):
    first = len(PROMPTS) * list(REQUIRED).index(kind)
    for row, prompt in enumerate(PROMPTS, first):
        expected = constrained_beam_search(
            logprobs_of(MODEL), prompt, required=REQUIRED[kind], beams=5, budget=9,
            eos=[10],
        )  # fmt: skip
        agree(every_kind, row, expected, 5)


def test_every_hypothesis_holds_every_phrase_even_in_the_tightest_budget():
    required = [[8, 3], [0], [5, 5]]
    found = beam_search(
        MODEL, PROMPTS, num_beams=4, max_new_tokens=5, num_return=4, eos_ids=[10],
        required=required,
    )  # fmt: skip
    for row in range(len(PROMPTS)):
        got = hypotheses(found, row)
        assert got
        for _, tokens in got:
            spelled = " " + " ".join(map(str, tokens)) + " "
            for phrase in required:
                assert " " + " ".join(map(str, phrase)) + " " in spelled


def test_prompts_may_require_different_phrases():
    required = [[[8]], [[0], [5, 9]], []]
    options = {"num_beams": 4, "max_new_tokens": 7, "num_return": 4, "eos_ids": [10]}
    found = beam_search(MODEL, PROMPTS, required=required, **options)
    for row, prompt in enumerate(PROMPTS):
        alone = beam_search(MODEL, [prompt], required=required[row], **options)
        agree(found, row, hypotheses(alone, 0), 4)


def test_no_required_phrase_is_a_plain_search():
    options = {"num_beams": 3, "max_new_tokens": 6, "num_return": 3, "eos_ids": [10]}
    np.testing.assert_array_equal(
        beam_search(MODEL, PROMPTS, required=[], **options).tokens,
        beam_search(MODEL, PROMPTS, **options).tokens,
    )
