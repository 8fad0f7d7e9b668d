"""What a search refuses, before anything compiles."""

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode.beam import (
    GNMT,
    LengthPenalty,
    beam_sample,
    beam_search,
    stochastic_beam_search,
)
from jaxdecode.decode.beam.request import check_beams
from tests.decode.beam.decay import decay

V = 11
MODEL = decay(V)
REFUSED = {
    "more beams than tokens": ({"num_beams": 12}, "`num_beams` must be in \\[1, 11\\]"),
    "no beams": ({"num_beams": 0}, "`num_beams` must be >= 1"),
    "more returned than beams": (
        {"num_return": 4},
        "`num_return` must be <= `num_beams`",
    ),
    "a NaN penalty": ({"length_penalty": np.nan}, "`alpha` must be finite"),
    "an infinite penalty": ({"length_penalty": np.inf}, "`alpha` must be finite"),
    "a penalty for another batch": (
        {"length_penalty": [1.0, 2.0, 3.0]},
        "one per prompt",
    ),
    "two scorings": ({"length_penalty": 2.0, "scoring": GNMT()}, "must be left out"),
    "an unknown stop": ({"early_stopping": "soon"}, "`early_stopping` must be one of"),
    "groups that do not divide": ({"groups": 2}, "`groups` must divide"),
    "a negative price": ({"diversity": -1.0}, "`diversity` must be >= 0"),
    "an empty phrase": ({"required": [[]]}, "no empty phrase"),
    "an unknown token": ({"required": [[V]]}, "below the vocabulary size"),
    "a phrase too long": ({"required": [[1] * 6]}, "must fit into `max_new_tokens`"),
    "an eos in a phrase": ({"required": [[1, 2]]}, "must not hold an eos"),
    "an unknown memory": ({"memory": "some"}, "`memory` must be one of"),
    "a memory it cannot have": ({"memory": "shared"}, "does not share prompts"),
    "an empty prompt": ({"prompts": [[]]}, "must not be empty"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_values_out_of_range_are_refused(kind):
    changed, message = REFUSED[kind]
    options = {"prompts": [[1], [2]], "num_beams": 3, "max_new_tokens": 5, "eos_ids": 2}
    options |= changed
    prompts = options.pop("prompts")
    with pytest.raises(ValueError, match=message), jd.testing.count_compiles() as found:
        beam_search(MODEL, prompts, **options)
    assert found.count == 0


WRONG_KINDS = {
    "a fraction of a beam": ({"num_beams": 2.5}, "`num_beams` must be"),
    "a truncation": ({"edits": jd.TopK(3)}, "`edits` must be edits"),
    "no scoring": ({"scoring": "mean"}, "`scoring` must be"),
    "a scoring not built": ({"scoring": LengthPenalty}, "`scoring` must be"),
    "a number for a switch": (
        {"renormalize": 1},
        "`renormalize` must be True or False",
    ),
    "a flat phrase": ({"required": [1, 2]}, "`required` must be phrases"),
}


@pytest.mark.parametrize("kind", WRONG_KINDS)
def test_arguments_of_the_wrong_kind_are_refused(kind):
    changed, message = WRONG_KINDS[kind]
    with pytest.raises(TypeError, match=message):
        beam_search(MODEL, [[1]], **({"num_beams": 3, "max_new_tokens": 5} | changed))


def test_more_candidates_than_an_int32_can_count_are_refused():
    with pytest.raises(ValueError, match="must be <= 2147483647, got 50000 \\* 50000"):
        check_beams("beam_search", 50000, 50000)


@pytest.mark.parametrize("search", [beam_sample, stochastic_beam_search])
def test_a_search_that_draws_needs_a_key(search):
    with pytest.raises(TypeError, match="`key` must be"):
        search(MODEL, [[1]], None, num_beams=2)


def test_a_sample_leaves_room_for_the_beam_that_finds_the_threshold():
    with pytest.raises(ValueError, match="`num_beams` must be in \\[1, 10\\]"):
        stochastic_beam_search(MODEL, [[1]], 0, num_beams=11)
