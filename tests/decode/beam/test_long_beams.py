"""Beams on accelerators read what is in use of their caches, by blocks or by stages.

The hypotheses are those of a CPU, where attention reads all columns at once.
"""

import re

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode.beam import searching
from jaxdecode.decode.beam.request import prepare_search
from tests.decode.test_long_rows import PLAIN, PLATFORMS, model, prompts

BEAMS, NEW = 3, 15
LENGTHS = (3, 17, 20)  # the blocks have 8 columns


@pytest.fixture
def on(monkeypatch):
    def use(platform):
        monkeypatch.setattr(
            "jaxdecode.decode.beam.request.current_platform", lambda: platform
        )

    return use


def check_same(on, search, platform, fields=("scores",)):
    on(PLAIN)
    expected = search()
    on(PLATFORMS[platform])
    found = search()
    assert found.tokens.tolist() == expected.tokens.tolist()
    for name in fields:
        pair = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(*pair, atol=5e-5, err_msg=name)


def with_memories():
    """One case is searched soon, in a model of one block."""
    soon = [("caps", "shared", "tpu")]
    for name in ("caps", "windows"):
        for memory in ("shared", "whole"):
            for platform in PLATFORMS:
                case = name, memory, platform
                marks = [] if case in soon else [pytest.mark.slow]
                yield pytest.param(*case, marks=marks)


@pytest.mark.parametrize(("name", "memory", "platform"), with_memories())
def test_beams_are_those_that_read_all_columns(on, name, memory, platform):
    def search():
        options = {"num_beams": BEAMS, "max_new_tokens": [NEW, 4, NEW - 1]}
        options |= {"num_return": BEAMS, "memory": memory}
        return jd.beam_search(model(name), prompts(LENGTHS), **options)

    check_same(on, search, platform)


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", ["caps", "grouped heads"])
def test_texts_without_replacement_are_those_that_read_all_columns(on, platform, name):
    def search():
        options = {"num_beams": BEAMS, "max_new_tokens": NEW, "eos_ids": 5}
        given = model(name), prompts(LENGTHS), 0
        return jd.stochastic_beam_search(*given, **options)

    check_same(on, search, platform, ("logprobs", "perturbed", "inclusion"))


def columns_read(memory):
    """Return how many columns the tokens of each loop read, but for shared prompts."""
    given = model("grouped heads"), prompts((1, 4, 6)), BEAMS, jd.chain()
    options = {"max_new_tokens": NEW, "memory": memory}
    asked = prepare_search("test", *given, options)
    traced = searching.run.trace(given[0], asked.prompts, asked.search, asked.pad_id)
    shape = r"f32\[3,2,6,(\d+)\]" if memory == "shared" else r"f32\[9,2,2,(\d+)\]"
    found = []
    for line in (x for x in traced.jaxpr.eqns if x.primitive.name == "while"):
        scores = re.findall(shape, str(line.params["body_jaxpr"]))
        # Heads have 8 numbers, and prompts 16 columns.
        found.append({int(n) for n in scores} - {1, 8, 16})
    return [columns for columns in found if columns]


def test_a_loop_of_beams_that_asks_the_host_reads_more_from_stage_to_stage(on):
    on(PLATFORMS["gpu"])
    # Beams that share add three columns in each step, of which a look has four.
    assert columns_read("shared") == [{20}, {3 * NEW}]
    assert columns_read("whole") == [{12}, {16 + NEW}]
