"""The kernels for the instruction sets that this machine has besides its best one.

And for tiles, whose instructions are put in place by plain C.
"""

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
CHECKED += [f"../sampling/test_{name}.py" for name in ("noise", "order", "row_stats")]
AVX2 = "-mno-avx512f"
TILES = "-mamx-tile -mamx-int8 -mamx-bf16"
TILES_IN_C = f"{TILES} -include {Path(__file__).parent / 'amx_in_c.h'}"
# What the compiler is told to do otherwise, and what it then has.
OTHERWISE = {
    AVX2: {"LANES": "8"},
    f"{AVX2} -mno-avxvnni": {"LANES": "8", "__AVXVNNI__": None},
    "-mno-avx512bf16 -mno-avx512vnni": {"LANES": "16", "DOTS_BFLOAT16": None},
    TILES_IN_C: {"__AMX_TILE__": "1", "DOTS_BFLOAT16": "1"},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="no x86-64"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
]


def defined(options):
    """Return what `simd.h` defines for this machine with some options."""
    done = subprocess.run(
        ["cc", *options.split(), "-march=native", "-dM", "-E", NATIVE / "simd.h"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return {name: value for _, name, value in (x for x in lines if len(x) == 3)}


@pytest.mark.parametrize("options", OTHERWISE, ids=lambda o: o.split(" -include")[0])
def test_its_kernels_pass_the_same_tests(options, tmp_path):
    found = defined(options)
    if {name: found.get(name) for name in OTHERWISE[options]} != OTHERWISE[options]:
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
