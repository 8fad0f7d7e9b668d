"""Greedy decoding, with and without processors, equals Hugging Face's token for token."""

import pytest

import jaxdecode as jd
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

GREEDY = cases("greedy", "greedy_processors")
EDITED = ("greedy_processors_001", "greedy_processors_004")  # a penalty, a least length


def later(item):
    """Links and loops know no family; each link has golden cases of its own."""
    family, case = item
    soon = case["id"] == "greedy_000" or (family == "llama" and case["id"] in EDITED)
    return [] if soon else pytest.mark.slow


@pytest.mark.parametrize(
    "item", [pytest.param(item, id=name(item), marks=later(item)) for item in GREEDY]
)
def test_greedy_tokens_are_those_of_hugging_face(item):
    family, case = item
    params, eos = case["params"], eos_of(family, case["params"])
    edits = edits_of(params, eos)
    greedy = jd.Temperature(0.0)
    found = jd.generate(
        tiny(family),
        case["prompts"],
        0,
        sampler=greedy if edits is None else jd.chain(edits, greedy),
        max_new_tokens=params["max_new_tokens"],
        new_tokens_max=max(NEW_TOKENS_MAX, params["max_new_tokens"]),
        eos_ids=eos,
        pad_id=1,
    )
    for row, hypotheses in robust_rows(case):
        assert tokens_of(found, row) == hypotheses[0]["tokens"]
        ended = jd.Status.EOS if hypotheses[0]["finished_by_eos"] else jd.Status.LENGTH
        assert found.status[row] == ended
