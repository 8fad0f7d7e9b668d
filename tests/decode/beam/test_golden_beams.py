"""Beam search equals Hugging Face's: tokens, order, scores, in every golden case."""

import numpy as np
import pytest

from jaxdecode.core.status import Status
from jaxdecode.decode.beam import beam_search
from tests.decode.generate_cases import (
    NEW_TOKENS_MAX,
    cases,
    edits_of,
    eos_of,
    name,
    robust_rows,
    tiny,
    tokens_of,
)

BEAMS = cases("beam", "beam_eos", "beam_processors", "beam_single")


# (beams, eos ids): each pair is a program of its own, and the rule is the same for all.
# These are checked soon, with a penalty, the others with the slow tests.
SIZES = {"beam": [(4, 1)], "beam_eos": [(6, 10)]}
LINKS = [{"num_beams": 3, "repetition_penalty": 1.4, "renormalize_logits": True}]


def is_soon(family, case):
    """A search knows no family: that of the other one is soon a prompt alone."""
    params, group = case["params"], case["group"]
    if group == "beam_single":
        return family != "llama" and len(case["prompts"]) == 1
    if group == "beam_processors":
        asked = {"renormalize_logits": False, **params}
        chosen = any(links.items() <= asked.items() for links in LINKS)
    else:
        pair = params["num_beams"], np.size(eos_of(family, params))
        chosen = pair in SIZES[group]
    return family == "llama" and chosen


def later(item):
    return [] if is_soon(*item) else pytest.mark.slow


@pytest.mark.parametrize(
    "item", [pytest.param(item, id=name(item), marks=later(item)) for item in BEAMS]
)
def test_hypotheses_are_those_of_hugging_face(item):
    family, case = item
    params, eos = case["params"], eos_of(family, case["params"])
    found = beam_search(
        tiny(family),
        case["prompts"],
        num_beams=params["num_beams"],
        max_new_tokens=params["max_new_tokens"],
        new_tokens_max=NEW_TOKENS_MAX,
        length_penalty=params.get("length_penalty", 1.0),
        early_stopping=params.get("early_stopping", False),
        num_return=params["num_return_sequences"],
        edits=edits_of(params, eos),
        renormalize=params.get("renormalize_logits", False),
        eos_ids=eos,
        pad_id=1,
    )
    for row, hypotheses in enumerate(case["results"]):
        scores = [hypothesis["score"] for hypothesis in hypotheses]
        np.testing.assert_allclose(found.scores[row], scores, rtol=1e-5, atol=1e-4)
    for row, hypotheses in robust_rows(case):
        for rank, hypothesis in enumerate(hypotheses):
            assert tokens_of(found, row, rank) == hypothesis["tokens"]
            ended = found.status[row, rank] == Status.EOS
            assert bool(ended) == hypothesis["finished_by_eos"]
