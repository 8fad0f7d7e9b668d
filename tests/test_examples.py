"""The example programs run and show what they say."""

import ast
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.native import why_unavailable

FOLDER = pathlib.Path(__file__).parent.parent / "scripts" / "examples"


@pytest.fixture(autouse=True)
def _promote_as_users_do():
    """The suite refuses silent casts; a user's own code may have them."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


def example(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.stem)
def test_every_example_explains_itself(path, capsys):
    with pytest.raises(SystemExit) as ended:
        example(path.stem).main(["--help"])
    assert ended.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_the_training_step_learns_and_compiles_once(capsys):
    first, last, compilations = example("training_step").main(["--steps", "25"])
    assert compilations == 0
    assert last > first + 0.3
    assert "reward" in capsys.readouterr().out


def test_a_policy_learns_from_its_groups_in_one_compiled_step(capsys):
    history, compilations = example("grpo").main(["--steps", "16"])
    assert compilations == 0
    assert history[-1]["reward"] > history[0]["reward"] + 0.5
    assert abs(history[0]["kl"]) < 1e-6 < 0.5 < history[-1]["kl"]
    # The text is scored right after it was drawn, so that a ratio is 1. Rounding of a
    # log-probability below -8 is 1e-6, of which the rarest token has a few.
    errors = [seen["ratio error"] for seen in history]
    assert np.median(errors) <= 2e-6
    assert max(errors) <= 4e-6
    assert "reward" in capsys.readouterr().out


def test_a_missing_file_of_prompts_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        example("batch_of_prompts").main([str(tmp_path / "none"), "out"])
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.parametrize("wrong", [["--max-new-tokens", "0"], ["--temperature", "-1"]])
def test_a_bad_setting_leaves_an_earlier_file_as_it_was(wrong, tmp_path, capsys):
    source, target = tmp_path / "prompts.txt", tmp_path / "texts.jsonl"
    source.write_text("One")
    target.write_text("kept")
    with pytest.raises(SystemExit):
        example("batch_of_prompts").main([str(source), str(target), *wrong])
    assert target.read_text() == "kept"
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.skipif(bool(why_unavailable()), reason="equal bits need the kernels")
def test_a_text_does_not_depend_on_its_batch(tmp_path):
    source, lines = tmp_path / "prompts.txt", ["One", "", "Two and two", "今天"]
    source.write_text("\n".join(lines), encoding="utf-8")
    found = {}
    for batch in (1, 3):
        target = tmp_path / f"{batch}.jsonl"
        options = ["--batch", str(batch), "--max-new-tokens", "8"]
        example("batch_of_prompts").main([str(source), str(target), *options])
        rows = [json.loads(x) for x in target.read_text("utf-8").splitlines()]
        assert [row["prompt"] for row in rows] == [x for x in lines if x]
        assert [row["line"] for row in rows] == [0, 2, 3]
        found[batch] = [row["text"] for row in rows]
    assert found[1] == found[3]


@pytest.mark.model
def test_a_sweep_has_a_row_per_setting_and_comes_out_the_same_twice(capsys):
    options = ["The sea", "--samples", "2", "--max-new-tokens", "8"]
    options += ["--temperatures", "0.5", "1.5", "--top-ps", "0.9"]
    rows = example("sweep").main(options)
    assert [row["temperature"] for row in rows] == [0.5, 1.5]
    assert rows[0]["mean_logprob"] > rows[1]["mean_logprob"]
    options[options.index("0.5")] = "0.6"  # other settings are the same program
    with jd.testing.count_compiles() as compiles:
        other = example("sweep").main(options)
    assert compiles.count == 0
    assert other != rows
    options[options.index("0.6")] = "0.5"
    assert example("sweep").main(options) == rows
    assert capsys.readouterr().out.count("| 0.5 |") == 2


@pytest.mark.model
@pytest.mark.parametrize("wrong", [["--top-ps", "1.5"], ["--samples", "0"]])
def test_a_sweep_names_a_setting_out_of_range(wrong, capsys):
    with pytest.raises(SystemExit):
        example("sweep").main(["The sea", *wrong])
    assert wrong[1] in capsys.readouterr().err


@pytest.mark.slow
def test_every_kind_of_model_passes_its_check_and_writes(capsys):
    module = example("your_own_model")
    written = module.main([])
    missing = capsys.readouterr().out.count("left out")
    assert len(written) + missing == len(module.KINDS)
    assert {"nnx", "linen", "stack", "recurrent"} <= set(written)
    for rows in written.values():
        assert [len(row) for row in rows] == [8, 8]


def adapters():
    """The functions of the examples that wrap a model, with their files."""
    for name in ("your_own_model", "keras_hub_model"):
        tree = ast.parse((FOLDER / f"{name}.py").read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("from_"):
                yield pytest.param(node, id=f"{name}-{node.name}")


@pytest.mark.parametrize("node", adapters())
def test_an_adapter_has_at_most_eight_lines(node):
    skipped = (ast.Import, ast.ImportFrom)
    body = [one for one in node.body if not isinstance(one, skipped)]
    code = ast.unparse(body[1:] if ast.get_docstring(node) else body)
    lines = [line for line in code.splitlines() if line.strip()]
    assert 1 <= len(lines) <= 8, code


# Without the tokenizers' TensorFlow, of which pip's resolver would bring half a gigabyte.
KERAS_HUB = "keras keras-hub namex optree h5py regex absl-py kagglehub kagglesdk"


@pytest.fixture
def with_keras_hub(tmp_path):
    """The environment of a process that has keras-hub."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "KERAS_HOME": str(tmp_path)}
    root = str(FOLDER.parent.parent)
    if importlib.util.find_spec("keras_hub"):
        return env | {"PYTHONPATH": root}
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps"]
    target = tmp_path / "packages"
    command = [*pip, "--target", str(target), *KERAS_HUB.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"keras-hub does not install here: {done.stderr.strip()[-200:]}")
    return env | {"PYTHONPATH": f"{root}{os.pathsep}{target}"}


@pytest.mark.slow
def test_a_model_of_keras_hub_writes_what_its_own_generate_writes(with_keras_hub):
    command = [sys.executable, str(FOLDER / "keras_hub_model.py")]
    done = subprocess.run(
        command, env=with_keras_hub, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if " -> " in line]
    assert len(lines) == 2
    assert all(line.endswith("as keras-hub writes") for line in lines)
