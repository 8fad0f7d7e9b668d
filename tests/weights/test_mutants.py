"""Files damaged at random are accepted or refused; `mutants.py` runs more of them."""

import pytest

from tests.weights.mutant_kinds import KINDS
from tests.weights.mutants import MEMORY_MAX, run


def test_every_mutant_is_accepted_or_refused():
    count = 20 * len(KINDS)
    report = run(",".join(KINDS), count, seed=7)
    assert report["faults"] == []
    assert report["accepted"] + report["refused"] == count
    assert report["accepted"] > count / 10
    assert report["refused"] > count / 4
    assert 0 < report["memory"] < MEMORY_MAX


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_more_mutants_are_accepted_or_refused(kind):
    report = run(kind, count=300, seed=11)
    assert report["faults"] == []
