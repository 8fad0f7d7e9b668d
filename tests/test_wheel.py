"""What is published: a wheel that installs into an empty environment and runs."""

import pathlib
import subprocess
import sys
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PROGRAM = """
import jax, jax.numpy as jnp, jaxdecode as jd
from jaxdecode.models import from_logits_function
table = jax.random.normal(jax.random.key(0), (11, 11))
model = from_logits_function(
    lambda table, tokens: table[tokens], table, vocab_size=11, max_length=32
)
out = jd.generate(model, [[1, 2]], 0, max_new_tokens=4, sampler=jd.joint(top_k=3))
print(jd.__file__, out.lengths.tolist())
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_types_sources_and_pages(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = ["py.typed", "native/kernels.c", "native/simd.h", "ARCHITECTURE.md"]
    assert {f"jaxdecode/{name}" for name in wanted} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]


def test_the_wheel_runs_in_an_empty_environment(wheel, tmp_path):
    place = tmp_path / "env"
    venv.create(place, with_pip=True)
    python = str(place / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)

    def run(*arguments):
        command = [python, "-I", *arguments]  # PYTHONPATH would show the checkout
        done = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        return done.stdout.decode()

    assert "generate" in run("-m", "jaxdecode", "--help")
    shown = run("-c", PROGRAM)
    assert str(place) in shown
    assert shown.strip().endswith("[4]")
