"""Where the kernels come from, and what happens where they cannot."""

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdecode.models import build, random_params
from jaxdecode.native import begin_to_build, library, why_unavailable
from tests.models.model_cases import PLAIN, read, tokens_of
from tests.processes import ends_soon

SAY = "from jaxdecode.native import why_unavailable as w; print(w())"
BEGIN = """
from jaxdecode import native
from jaxdecode.native import library
print(native.begin_to_build(), library._load.cache_info().currsize)
print(native.why_unavailable())
"""
# A compiler that says who it is and does not end.
WAITING = "#!/bin/sh\necho $$ > {place}/pid\nsleep 100\n"
LEAVE = """
import pathlib, sys, time
from jaxdecode import native
print(native.begin_to_build())
place = pathlib.Path(sys.argv[1])
while not place.is_file() or not place.read_text().strip():
    time.sleep(0.01)
"""


def said_by_another_process(tmp_path, *arguments, program=SAY, **variables):
    environment = os.environ | {"JAXDECODE_CACHE": str(tmp_path)} | variables
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def said_here(monkeypatch, tmp_path, cc):
    """Return what a process says whose kernels cannot be built, without starting it."""
    monkeypatch.setenv("JAXDECODE_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", cc)
    return library._load.__wrapped__()


def has_instructions():
    known = Path("/proc/cpuinfo")
    named = known.read_text().split() if known.exists() else []
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    return is_arm or {"avx2", "fma"} <= set(named)


def test_they_can_be_turned_off(tmp_path):
    assert said_by_another_process(tmp_path, JAXDECODE_NATIVE="off") == (
        "JAXDECODE_NATIVE is off"
    )


def test_without_a_compiler_the_reason_is_told(monkeypatch, tmp_path):
    said = said_here(monkeypatch, tmp_path, "no-such-compiler")
    assert "no C compiler found (looked for no-such-compiler)" in said


def test_a_compiler_that_refuses_is_quoted(monkeypatch, tmp_path):
    refusing = tmp_path / "cc"
    refusing.write_text("#!/bin/sh\necho 'x.c:1: error: no AVX2 here' >&2\nexit 1\n")
    refusing.chmod(0o755)
    said = said_here(monkeypatch, tmp_path, str(refusing))
    assert "refused the kernels: x.c:1: error: no AVX2 here" in said


# Not skipped where the kernels are refused: else all their tests would be, unnoticed.
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif(not has_instructions(), reason="no AVX2, AVX-512 or NEON")
def test_they_are_compiled_once(tmp_path, quick_cc):
    assert said_by_another_process(tmp_path, CC=quick_cc) == ""
    (made,) = (tmp_path / "native").glob("kernels-*.so")
    before = made.stat().st_mtime_ns
    assert said_by_another_process(tmp_path, CC=quick_cc) == ""
    assert made.stat().st_mtime_ns == before
    assert list((tmp_path / "native").iterdir()) == [made]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif(not has_instructions(), reason="no AVX2, AVX-512 or NEON")
def test_they_are_built_beside_other_work_and_waited_for(tmp_path, quick_cc):
    said = said_by_another_process(tmp_path, program=BEGIN, CC=quick_cc).splitlines()
    assert said == ["True 0"]  # expected, not there yet; then there, for no reason not
    assert len(list((tmp_path / "native").glob("kernels-*.so"))) == 1


@pytest.mark.parametrize(
    "variables", [{"JAXDECODE_NATIVE": "off"}, {"CC": "no-such-compiler"}]
)
def test_nothing_is_expected_where_nothing_can_be_built(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not begin_to_build()


def test_nothing_is_expected_where_nothing_can_be_kept(monkeypatch, tmp_path):
    unasked = functools.cache(library._load.__wrapped__)  # as in a new process
    monkeypatch.setattr(library, "_load", unasked)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("JAXDECODE_CACHE", str(tmp_path / "file"))
    assert not begin_to_build()


@pytest.mark.skipif(not has_instructions(), reason="no AVX2, AVX-512 or NEON")
def test_a_process_that_ends_takes_its_compiler_along(tmp_path):
    waiting = tmp_path / "cc"
    waiting.write_text(WAITING.format(place=tmp_path))
    waiting.chmod(0o755)
    known = tmp_path / "pid"
    said = said_by_another_process(tmp_path, str(known), program=LEAVE, CC=str(waiting))
    assert said == "True"
    assert ends_soon(int(known.read_text()))
    assert list((tmp_path / "native").iterdir()) == []


def test_a_model_that_insists_on_them_is_refused_where_there_are_none(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "off")
    with pytest.raises(ValueError, match="`native` must be False here: JAXDECODE_NAT"):
        build(PLAIN, random_params(PLAIN), native=True)


@pytest.mark.skipif(bool(why_unavailable()), reason=why_unavailable())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_model_says_the_same_with_and_without_them(dtype):
    rows = tokens_of(7, 3)
    with_them, without = (
        build(PLAIN, random_params(PLAIN), dtype, native=native)
        for native in (True, False)
    )
    atol = {"float32": 1e-5, "bfloat16": 5e-2, "int8": 5e-2}[dtype]
    for row, length in enumerate((7, 3)):
        got, wanted = (read(m, rows)[0][row, :length] for m in (with_them, without))
        np.testing.assert_allclose(got, wanted, atol=atol)
    assert with_them.params.keys() == without.params.keys()
    for name, value in without.params.items():
        np.testing.assert_array_equal(with_them.params[name], value)
