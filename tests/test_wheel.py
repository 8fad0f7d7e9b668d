"""What is published: a wheel that installs into an empty environment and runs."""

import ast
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
    wanted += ["report/assets/page.html", "report/assets/main.js"]
    assert {f"jaxdecode/{name}" for name in wanted} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel and what the core needs, and how to use it."""
    place = tmp_path_factory.mktemp("place")
    venv.create(place / "env", with_pip=True)
    python = str(place / "env" / "bin" / "python")

    def install(extra=""):
        command = [python, "-m", "pip", "install", "-q", f"{wheel}{extra}"]
        subprocess.run(command, check=True, capture_output=True)

    def run(*arguments, code=0):
        command = [python, "-I", *arguments]  # PYTHONPATH would show the checkout
        done = subprocess.run(command, capture_output=True, cwd=place, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    install()
    return place, install, run


def test_the_core_runs_without_extras_and_names_them(environment):
    place, install, run = environment
    shown = run("-c", PROGRAM)
    assert str(place) in shown
    assert shown.strip().endswith("[4]")
    assert 'pip install "jaxdecode[cli]"' in run("-m", "jaxdecode", "--help", code=2)
    missing = run("-c", "import jaxdecode as jd; jd.load('smollm2-135m')", code=1)
    assert 'pip install "jaxdecode[text]"' in missing
    install("[cli]")
    assert "generate" in run("-m", "jaxdecode", "--help")


def test_the_core_is_light(environment):
    """What it adds to jax and flax, and that nothing of it knows a network."""
    _, _, run = environment
    program = """
import sys, time
import jax, jax.numpy, flax.nnx
before = set(sys.modules)
start = time.perf_counter()
import jaxdecode as jd
jd.generate, jd.joint, jd.beam_search, jd.from_function
print(round(time.perf_counter() - start, 2))
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    seconds, modules = min(run("-c", program).splitlines() for _ in range(3))
    assert float(seconds) < 0.6
    assert not {"requests", "httpx", "tokenizers", "huggingface_hub"} & set(
        ast.literal_eval(modules)
    )
