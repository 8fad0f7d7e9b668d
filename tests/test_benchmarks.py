"""Every benchmark runs to its end, small and without peers, and says what it found."""

import json
import pathlib
import runpy
import sys

import jax
import pytest

from jaxdecode.measure import chips
from jaxdecode.models import SHAPES, ModelConfig

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"
SMALL = ModelConfig(  # a vocabulary as large as the benchmarks draw their prompts from
    family="llama",
    vocab_size=40961,
    width=64,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    mlp_width=64,
    max_length=256,
)
SHAPE = "--shape smollm2-135m"  # for which the tiny model stands in here
WITHOUT_A_MODEL = {
    "accelerators": f"{SHAPE} --batch 1",
    "beam": f"{SHAPE} --rounds 1 --beams 2 --batch 1 --context 16 --new-tokens 2",
    "compile_time": f"{SHAPE} --rounds 1 --dtypes float32 --new-tokens 2",
    "decode": f"{SHAPE} --rounds 1 --dtypes float32 --batches 2 --new-tokens 2",
    "history": "--rounds 1 --batch 2 --vocab 67 --history 32 --steps 2",
    "many": "--requests 40 --slots 2",
    "prefill": f"{SHAPE} --rounds 1 --lengths 16",
    "products": "--rounds 1 --dtypes float32 --rows 2",
    "sampler": "--rounds 1 --vocabs 67 --batches 2 --rows peaked",
    "scaling": f"{SHAPE} --rounds 1 --batches 1 --contexts 16 --new-tokens 2",
}
WITH_THE_MODEL = {
    "constrained": "--batch 1 --steps 2 --repeats 1 --kinds date",
    "engine": "--requests 2 --slots 2 --prompt-max 16 --new-max 2",
    "quality": "--windows 2 --length 8",
    "sampling_share": "--rounds 1 --dtypes float32 --batches 1",
    "starting": "--rounds 1 --dtypes float32",
}
PEERS = ("beam", "decode", "engine", "prefill")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Return what runs a benchmark and gives its table and its document."""

    def run(name, options):
        peers = ["--no-peers"] if name in PEERS else []
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options.split(), *peers])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        *table, document = capsys.readouterr().out.splitlines()
        return table, json.loads(document)

    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setitem(SHAPES, "smollm2-135m", SMALL)
    monkeypatch.setattr("measure.RESULTS", tmp_path / "results")
    # What is asked here is whether it runs: programs need not be quick, in children too.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    jax.config.update("jax_disable_most_optimizations", True)  # until the next test
    # A user's benchmark runs without the strict promotion of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield run
    for name in set(sys.modules) - before:
        if (FOLDER / f"{name}.py").is_file():
            del sys.modules[name]


def holds_what_it_says(name, table, document):
    assert document["benchmark"].startswith(name)
    assert document["rows"]
    assert len(table) >= 2 + len(document["rows"])
    figures = [v for row in document["rows"] for v in row.values()]
    assert any(isinstance(v, float) and v > 0 for v in figures)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WITHOUT_A_MODEL)
def test_a_benchmark_on_random_weights_runs(name, run):
    if name == "accelerators" and (reason := chips.why_no_compiler("v5e")):
        pytest.skip(reason)
    holds_what_it_says(name, *run(name, WITHOUT_A_MODEL[name]))


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WITH_THE_MODEL)
def test_a_benchmark_on_the_model_runs(name, run):
    holds_what_it_says(name, *run(name, WITH_THE_MODEL[name]))


def test_every_benchmark_is_run():
    """A script that reports has an entry above."""
    scripts = {
        path.stem for path in FOLDER.glob("*.py") if "plot_option(" in path.read_text()
    }
    assert scripts - {"measure", "plotting"} == {*WITHOUT_A_MODEL, *WITH_THE_MODEL}
