"""Compiled programs on disk: written, found again, and mended when they are damaged."""

import subprocess
import sys

import pytest

from jaxdecode.core import compile_cache

PROGRAM = """
import sys
from jaxdecode.cli import runtime
runtime.start_jax()
import jax, jax.monitoring
hits = []
jax.monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None
)
@jax.jit
def sure(x):
    return x * 3
print(int(sure(4)), len(hits))
"""


def start(folder):
    """Run a small program with its compiled form kept in `folder`."""
    environment = {"JAXDECODE_CACHE": str(folder), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Return a folder with what one start left."""
    folder = tmp_path_factory.mktemp("first")
    assert start(folder) == ["12", "0"]
    return folder


def test_a_second_start_compiles_nothing_small_programs_included(first):
    assert start(first)[1] != "0"


def test_a_damaged_program_is_compiled_again_and_replaced_without_a_word(first):
    (entry,) = first.glob("xla/*/jit_sure-*-cache")
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    assert start(first)[0] == "12"
    assert len(entry.read_bytes()) > len(whole) // 2


def test_a_cache_folder_that_cannot_be_made_is_no_obstacle(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert start(file) == ["12", "0"]


def test_forgetting_a_program_leaves_those_of_other_names(tmp_path):
    for name in ("jit_f-1-cache", "jit_f-2-cache", "jit_fg-1-cache", "jit_f-1-atime"):
        (tmp_path / name).write_bytes(b"")
    assert compile_cache.forget_program(tmp_path, "jit_f") == 2
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["jit_f-1-atime", "jit_fg-1-cache"]
