"""The kernels for the instruction sets that this machine has besides its best one."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxdecode.native import library

NATIVE = Path(library.__file__).parent
CHECKED = ["test_product.py", "test_attend.py", "test_wrong_calls.py"]
CHECKED += [f"../sampling/test_{name}.py" for name in ("noise", "row_stats")]
AVX2 = "-mno-avx512f"
# What the compiler is told to do without, and what it then has.
WITHOUT = {
    AVX2: {"LANES": "8"},
    f"{AVX2} -mno-avxvnni": {"LANES": "8", "__AVXVNNI__": None},
    "-mno-avx512bf16 -mno-avx512vnni": {"LANES": "16", "DOTS_BFLOAT16": None},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="no x86-64"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
]


def defined(options):
    """Return what `simd.h` defines for this machine without some instructions."""
    done = subprocess.run(
        ["cc", *options.split(), "-march=native", "-dM", "-E", NATIVE / "simd.h"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return {name: value for _, name, value in (x for x in lines if len(x) == 3)}


@pytest.mark.parametrize("options", WITHOUT)
def test_its_kernels_pass_the_same_tests(options, tmp_path):
    found = defined(options)
    if {name: found.get(name) for name in WITHOUT[options]} != WITHOUT[options]:
        pytest.skip(f"this machine has no such kernels: {options}")
    environment = {"CC": f"cc {options}", "JAXDECODE_CACHE": str(tmp_path)}
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *[folder / name for name in CHECKED]],
        env=os.environ | environment,
        cwd=folder.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
