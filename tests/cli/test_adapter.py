"""`--adapter`: the model that a command loads has the adapter's weights."""

import json
import shutil

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode import text
from jaxdecode.cli import runtime
from jaxdecode.cli.options import ModelOptions
from tests.families.checkpoints import GOLDEN, write

ADAPTER = str(GOLDEN / "adapter")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(write(tmp_path_factory.mktemp("granite"), "granite"))


@pytest.fixture
def loads(model, monkeypatch):
    """The calls of `load`, which gives a fake."""
    found = []
    monkeypatch.setattr(text, "load", lambda *a, **k: found.append((a, k)) or model)
    return found


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_the_folder_reaches_the_loader(command, loads, run):
    argv = ("--seed", "1", "--model", "m", "--adapter", ADAPTER)
    assert run(command, "a", *argv)[:2] == (0, "w5 w7 w11 \n")
    assert loads == [(("m",), {"dtype": None, "adapter": ADAPTER})]


def test_without_it_nothing_is_merged(loads, run):
    run("generate", "a", "--seed", "1", "--dtype", "int8")
    assert loads == [(("smollm2-135m",), {"quantize": "int8"})]


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_a_folder_that_is_not_there_is_refused_before_a_download(command, loads, run):
    code, out, err = run(command, "a", "--adapter", "no/such")
    assert (code, out, loads) == (2, "", [])
    assert "--adapter must be a folder, got 'no/such'" in err
    assert "Traceback" not in err


def test_the_weights_are_those_of_the_merged_model(base):
    options = ModelOptions(name=base, dtype="float32", adapter=ADAPTER)
    found = runtime.load_model(options).model.params
    wanted = jd.load(base, "float32", adapter=ADAPTER).model.params
    plain = jd.load(base, "float32").model.params
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
    assert any((found[name] != plain[name]).any() for name in plain)


def test_an_adapter_that_does_not_fit_is_explained(base, tmp_path, run, monkeypatch):
    monkeypatch.setattr(runtime, "start_jax", lambda: None)
    broken = tmp_path / "adapter"
    shutil.copytree(ADAPTER, broken)
    path = broken / "adapter_config.json"
    options = json.loads(path.read_text()) | {"peft_type": "VERA"}
    path.write_text(json.dumps(options))
    code, out, err = run("generate", "a", "--model", base, "--adapter", str(broken))
    assert (code, out) == (2, "")
    assert "VERA" in err
    assert "Traceback" not in err
