"""Files damaged at random are accepted or refused; `mutants.py` runs more of them."""

import subprocess
import sys

import numpy as np
import pytest

from tests.weights.mutant_kinds import KINDS
from tests.weights.mutants import MEMORY_MAX, run


def test_every_mutant_is_accepted_or_refused():
    count = 6 * len(KINDS)
    report = run(",".join(KINDS), count, seed=7)
    assert report["faults"] == []
    assert report["accepted"] + report["refused"] == count
    assert report["accepted"] > count / 10
    assert report["refused"] > count / 4
    assert 0 < report["memory"] < MEMORY_MAX


def test_memory_is_what_the_program_took_and_not_its_parent():
    held = np.ones(300 * 2**20, np.uint8)
    code = """if True:
        from tests.weights.mutants import peak_memory
        before, held = peak_memory(), bytes(range(256)) * 2**18
        del held
        print(before, peak_memory())
    """
    command = [sys.executable, "-c", code]
    before, after = map(int, subprocess.check_output(command).split())
    assert 0 < before < held.nbytes / 3
    assert after - before > 60 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_more_mutants_are_accepted_or_refused(kind):
    report = run(kind, count=300, seed=11)
    assert report["faults"] == []
