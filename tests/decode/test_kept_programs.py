"""A finished program is found on disk without tracing, and only where it is the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import jax, numpy as np
import jaxdecode as jd
from tests import tiny
from jaxdecode.decode import programs
exec(sys.argv[2])
folder = jd.enable_compilation_cache(sys.argv[1])
traced = []
run = programs._run
programs._run = lambda *args: traced.append(1) or run(*args)
model = tiny.llama()
sampler = jd.joint(temperature=0.9, top_k=5)
prompts = [[1, 2, 3], [4, 5, 6, 7], [8]]
out = jd.generate(model, prompts, 3, sampler=sampler, max_new_tokens=8)
pieces = list(jd.stream(model, prompts, 3, sampler=sampler, max_new_tokens=8))
again = np.concatenate([piece.tokens for piece in pieces], axis=1)
if sys.argv[3]:
  with jax.default_matmul_precision(sys.argv[3]):
    jd.generate(model, prompts, 3, sampler=sampler, max_new_tokens=8)
print(len(traced), np.asarray(out.tokens).tolist() == again.tolist(), out.tokens.tolist())
"""


def start(folder: Path, first: str = "", precision: str = "") -> tuple[int, str]:
    """Return how often a program was traced, and what it wrote.

    Args:
      folder: where programs are kept.
      first: what to do before.
      precision: of products in one more call at the end.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), first, precision],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    traced, text = done.stdout.split(" ", 1)
    return int(traced), text


def kept(folder: Path) -> list[Path]:
    """Return the files of the programs that are kept."""
    return sorted(folder.glob("*/programs/*.program"))


def test_a_second_start_traces_nothing_and_writes_the_same(tmp_path):
    count, text = start(tmp_path)
    assert count == 3
    assert text.startswith("True")
    assert len(kept(tmp_path)) == 3
    assert start(tmp_path) == (0, text)
    for path in kept(tmp_path):  # a damaged file is made again, whatever is wrong
        path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    assert start(tmp_path) == (3, text)
    assert start(tmp_path) == (0, text)


def test_jaxs_settings_count_and_programs_from_its_own_cache_are_not_kept(tmp_path):
    count, text = start(tmp_path)
    assert start(tmp_path, precision="highest") == (1, text)
    other = "jax.config.update('jax_default_matmul_precision', 'highest')"
    assert start(tmp_path, other) == (2, text)  # it has one of the three already
    for path in kept(tmp_path):
        path.unlink()
    assert start(tmp_path)[0] == count  # JAX's cache holds them: compiled all the same
    assert start(tmp_path) == (0, text)


@pytest.mark.parametrize(
    "first",
    [
        "jax.config.update('jax_num_cpu_devices', 2)",
        "from jaxdecode.core.pytree import pytree\n@pytree\nclass TopK(jd.TopK): pass\n"
        "jd.joint = lambda top_k, temperature: TopK(top_k)",
    ],
    ids=["two devices", "a link of the user's"],
)
def test_what_cannot_be_named_is_not_kept(tmp_path, first):
    assert start(tmp_path, first)[0] == 3
    assert kept(tmp_path) == []
