"""Sums stay in registers: moving some to memory would cost a third of the speed.

A compiler decides by what it knows of a processor, so a machine where it does well shows
nothing of another one. Compiled for several processors, never run.
"""

import platform
import re
import shutil
import subprocess

import jax.ffi
import pytest

from jaxdecode.native import library
from tests.native.test_called_from_c import machine_code_of
from tests.native.test_instruction_sets import NATIVE

PROCESSORS = [
    "x86-64-v4",
    "skylake-avx512",
    "icelake-server",
    "rocketlake -mavx512bf16",
    "sapphirerapids",
    "x86-64-v4 -mtune=znver3 -mavx512vnni -mavx512bf16",
]
PRODUCTS = "vfmadd231ps|vpdpwssd|vdpbf16ps|vpmaddwd"
# Moves to and from memory that a loop may have: four beside 96 products cost nothing.
KERNELS = {"strip_float32": 0, "strip_bfloat16": 0, "strip_int8": 0, "meet_span": 4}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="no x86-64"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc"),
]


def code_for(options, made):
    """Return the machine code of each kernel for a processor, as lines by name."""
    command = ["gcc", *library.FLAGS, *f"-march={options}".split(), "-o", made]
    include = f"-I{jax.ffi.include_dir()}"
    source = NATIVE / library.SOURCES[-1]
    done = subprocess.run(
        [*command, include, source, "-lm"], capture_output=True, text=True, check=False
    )
    if "bad value" in done.stderr:
        pytest.skip(f"this gcc does not know {options}")
    assert done.returncode == 0, done.stderr
    code = machine_code_of(made)
    functions = re.findall(r"^\w+ <(\w+)>:\n((?:.+\n)+)", code, re.MULTILINE)
    return {name: lines.splitlines() for name, lines in functions}


def innermost_loops(lines):
    """Yield the lines of each loop that holds no other one."""
    places = {line.split(":")[0].strip(): i for i, line in enumerate(lines)}
    jumps = [
        (places.get(found[1], len(lines)), i)
        for i, line in enumerate(lines)
        if (found := re.search(r"\sj\w+\s+([0-9a-f]+)", line))
    ]
    loops = [(start, end) for start, end in jumps if start < end]
    for start, end in loops:
        if not any(start <= other and last < end for other, last in loops):
            yield lines[start : end + 1]


@pytest.mark.parametrize("options", PROCESSORS)
def test_no_sum_waits_in_memory_while_products_are_added(options, tmp_path):
    functions = code_for(options, tmp_path / "kernels.so")
    for name, moves in KERNELS.items():
        tallest = 0
        for loop in innermost_loops(functions[name]):
            products = sum(bool(re.search(PRODUCTS, line)) for line in loop)
            moved = [x for x in loop if "zmm" in x and re.search(r"\(%r[sb]p\)", x)]
            assert not products or len(moved) <= moves, (name, products, moved)
            tallest = max(tallest, products)
        assert tallest >= 24, f"{name}: the loop of twelve rows was not found"
