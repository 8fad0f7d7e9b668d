"""The kernels called from C: for ARM under an emulator, and with guarded memory."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax.ffi
import pytest

from jaxdecode.native import library

HERE = Path(__file__).parent
EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
KERNELS = ["product", "attention", "survey", "best", "search"]


def cross_compiler():
    """Return the command of a compiler for 64-bit ARM, or None."""
    if shutil.which("aarch64-linux-gnu-gcc"):
        return ["aarch64-linux-gnu-gcc"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"]
    return None


def built(compiler, made, *options, check="check_kernels.c"):
    """Compile a check together with the kernels; return what came of it."""
    includes = (f"-I{jax.ffi.include_dir()}", f"-I{Path(library.__file__).parent}")
    flags = [flag for flag in library.FLAGS if flag not in ("-shared", "-fPIC")]
    command = [*compiler, *flags, *options, *includes, "-o", made, HERE / check, "-lm"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def machine_code_of(made):
    command = ["objdump", "-d", "--no-show-raw-insn", made]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def said_by(command, **variables):
    done = subprocess.run(
        command,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_its_kernels_equal_plain_sums(tmp_path):
    compiler = cross_compiler()
    emulator = next(filter(None, map(shutil.which, EMULATORS)), None)
    if compiler is None:
        pytest.skip("no compiler for ARM (gcc-aarch64-linux-gnu, or ziglang)")
    if emulator is None:
        pytest.skip("no emulator of ARM (qemu-user)")
    made = tmp_path / "check"
    done = built(compiler, made, "-static")
    assert done.returncode == 0, done.stderr
    assert said_by([emulator, made]) == KERNELS


@pytest.mark.slow
def test_on_this_machine_they_read_no_byte_that_is_not_theirs(tmp_path):
    made = tmp_path / "check"
    native = (library._compiler(), made, library._flags()[-1])
    assert built(*native).returncode == 0
    done = built(*native, "-fsanitize=address")
    if done.returncode != 0:
        pytest.skip(f"no address sanitizer: {done.stderr}")
    assert said_by([made]) == KERNELS


@pytest.mark.parametrize(
    "sanitizer", ["none", pytest.param("thread", marks=pytest.mark.slow)]
)
def test_every_part_of_shared_work_is_done_once_and_in_order(tmp_path, sanitizer):
    made = tmp_path / "check"
    native = (library._compiler(), made, library._flags()[-1], "-pthread")
    options = () if sanitizer == "none" else (f"-fsanitize={sanitizer}",)
    done = built(*native, *options, check="check_work.c")
    if sanitizer != "none" and done.returncode != 0:
        pytest.skip(f"no sanitizer: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert said_by([made]) == ["work"]
