"""A start that finds its program and its weights on disk imports only what it needs."""

import os
import subprocess
import sys

import pytest

from jaxdecode.models.families.catalog import FAMILIES
from tests.weights.makers import GOLDEN

SLOW = {"flax", "optax", "jaxdecode.decode.beam", "jaxdecode.text.inspection"}
GENERATE = f"""
import sys
from jaxdecode.cli.main import main
command = ["generate", "Once upon a time", "--model", sys.argv[1], "--dtype", sys.argv[2]]
code = main([*command, "--seed", "7", "--max-new-tokens", "5"])
print(*sorted({SLOW} & set(sys.modules)))
sys.exit(code)
"""
FOLDER = f"""
import sys
import jaxdecode as jd
from jaxdecode.weights import load_model
jd.enable_compilation_cache()
model = load_model(sys.argv[1]).model
print(jd.generate(model, [[3, 5, 7]], 0, max_new_tokens=5).tokens)
print(*sorted({SLOW} & set(sys.modules)))
"""
RECORDS = f"""
import sys
from jaxdecode.models.families.catalog import architectures
print(len({{family.name for family, _ in architectures()}}))
print(*sorted({SLOW} & set(sys.modules)))
"""
LIBRARY = f"""
import sys
import jaxdecode, jaxdecode.models, jaxdecode.text
print(*sorted({SLOW} & set(sys.modules)))
print(jaxdecode.models.Llama.__name__, "flax" in sys.modules)
"""


def run(program, *argv, **environment):
    """Return what a process prints, whose cache folder may be given."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, argv)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Without XLA's optimizations programs cannot be written down.
@pytest.mark.optimized
@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("int8", marks=pytest.mark.slow)]
)
def test_a_warm_start_makes_no_module_and_does_not_import_flax(tmp_path, dtype):
    path = GOLDEN / "tiny_llama_gguf" / "tiny_llama-Q8_0.gguf"
    cache = {"JAXDECODE_CACHE": str(tmp_path)}
    cold, warm = (run(GENERATE, path, dtype, **cache) for _ in range(2))
    assert cold == warm.removesuffix("\n") + "flax optax\n"


@pytest.mark.optimized
def test_nor_does_that_of_a_folder_for_which_every_family_is_asked(tmp_path):
    cache = {"JAXDECODE_CACHE": str(tmp_path)}
    cold, warm = (run(FOLDER, GOLDEN / "tiny_llama", **cache) for _ in range(2))
    assert cold == warm.removesuffix("\n") + "flax optax\n"


def test_no_record_of_a_family_brings_flax():
    assert run(RECORDS) == f"{len(FAMILIES)}\n\n"


def test_the_library_is_imported_without_flax():
    assert run(LIBRARY) == "\nLlama True\n"
