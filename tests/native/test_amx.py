"""Products by AMX, with plain C in place of the instructions (`amx_in_c.h`).

What is checked here is the arithmetic, the use of memory and when tiles are used at all,
on any machine. On one that has the instructions, the last test but one uses them.
"""

import platform
import shutil
from pathlib import Path

import pytest

from tests.native.test_called_from_c import built, machine_code_of, said_by
from tests.native.test_instruction_sets import TILES, TILES_IN_C

GUARDED = "-fsanitize=address,undefined"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="no x86-64"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc"),
]


def made_with(made, *options):
    given = (*TILES_IN_C.split(), "-march=native", "-O1", *options)
    done = built(["gcc"], made, *given, check="check_amx.c")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    return made_with(tmp_path_factory.mktemp("amx") / "check", GUARDED)


def test_tiles_give_every_bit_that_the_manual_promises(check):
    assert said_by([check]) == ["tiles", "right"]


def test_without_permission_the_other_kernels_multiply(check):
    assert said_by([check], AMX_REFUSED="1") == ["dots", "right"]


def test_instructions_that_end_a_process_end_a_child_only(check):
    assert said_by([check], AMX_TRAPS="1") == ["dots", "right"]


def test_tiles_that_round_otherwise_are_not_used(check):
    assert said_by([check], AMX_ROUNDS_OTHERWISE="1") == ["dots", "right"]


def test_tiles_that_forget_signs_are_not_used(check):
    assert said_by([check], AMX_FORGETS_SIGNS="1") == ["dots", "right"]


def test_this_very_machine_multiplies_right_with_tiles_or_without(tmp_path):
    made = made_with(tmp_path / "check", "-DAMX_OF_MACHINE")
    used, *said = said_by([made])
    assert said == ["right"]
    if "amx_tile" not in Path("/proc/cpuinfo").read_text():
        assert used == "dots"


def test_the_real_instructions_are_compiled(tmp_path):
    made = tmp_path / "check"
    options = ["-march=sapphirerapids", *TILES.split(), "-Wall", "-Werror"]
    done = built(["gcc"], made, *options, "-Wno-unused-function")
    if "sapphirerapids" in done.stderr:
        pytest.skip("this gcc does not know such processors")
    assert done.returncode == 0, done.stderr
    code = machine_code_of(made)
    for name in ("ldtilecfg", "tileloadd", "tdpbf16ps", "tdpbusd", "tdpbssd"):
        assert code.count(name) > 0, name
    assert "tilerelease" in code
