"""A pool on an accelerator reads what its rows have in use, stage after stage.

The tokens are those of a CPU, where attention reads all columns at once.
"""

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.platform import Platform
from jaxdecode.decode.generation import generate_for
from jaxdecode.engine import Engine
from jaxdecode.text import LanguageModel
from tests.decode.test_long_rows import PLAIN, PLATFORMS, model, prompts

# Three slots for four prompts: the last is admitted beside rows that are longer.
LENGTHS, BUDGETS = (1, 4, 6, 3), (28, 5, 20, 25)


@pytest.mark.parametrize(
    "platform", ["gpu", pytest.param("tpu", marks=pytest.mark.slow)]
)
def test_a_pool_writes_what_rows_that_read_all_columns_write(platform, monkeypatch):
    stages, compiled_for = [], Platform.for_rows_up_to

    def noted(self, columns):
        stages.append(columns)
        return compiled_for(self, columns)

    monkeypatch.setattr(Platform, "for_rows_up_to", noted)
    there = "jaxdecode.engine.engine.current_platform"
    monkeypatch.setattr(there, lambda: PLATFORMS[platform])
    one, given = model("windows"), prompts(LENGTHS)
    sampler = jd.joint(temperature=1.5)
    to = Engine(LanguageModel(one), slots=3, length=48, chunk=4, block=16, prefill=16)
    for index, (prompt, budget) in enumerate(zip(given, BUDGETS, strict=True)):
        options = {"sampler": sampler, "max_new_tokens": budget, "eos_ids": None}
        to.submit(prompt, key=index, id=index, **options)
    found = {result.id: list(result.samples[0].tokens) for result in to.results()}
    expected = generate_for(
        PLAIN,
        one,
        given,
        np.arange(4),
        sampler=sampler,
        max_new_tokens=list(BUDGETS),
    )
    for row, budget in enumerate(BUDGETS):
        assert found[row] == expected.tokens[row, :budget].tolist()
    assert sorted(set(stages)) == list(PLATFORMS[platform].stages)
