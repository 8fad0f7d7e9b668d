"""`jaxdecode bench` around a fake measurement: what is asked for, what is printed."""

import json
import sys

import pytest

from jaxdecode import measure
from jaxdecode.cli import runtime
from jaxdecode.measure import Decoding
from tests import tiny


@pytest.fixture
def asked(monkeypatch):
    """Put a fake in the place of model and clock; return what is asked of them."""
    calls = []

    class Loaded:
        model = tiny.llama()

    def found(model, *, batch, context, new_tokens, rounds, bandwidth):
        calls.append((batch, context, new_tokens, rounds, bandwidth))
        return Decoding(
            batch=batch,
            context=context,
            new_tokens=new_tokens,
            tokens_per_second=123.4,
            step_ms=8.5,
            first_token_ms=77.7,
            prompt_tokens_per_second=205.9,
            fraction_of_limit=0.625,
            first_call_s=9.1,
        )

    def load(wanted):
        calls.append((wanted.name, wanted.dtype))
        return Loaded()

    monkeypatch.setattr(runtime, "start_jax", lambda: None)
    monkeypatch.setattr(runtime, "load_model", load)
    monkeypatch.setattr(measure, "measure_decoding", found)
    monkeypatch.setattr(measure, "bandwidth", lambda: 24e9)
    return calls


def test_every_batch_is_measured_as_asked(asked, run):
    code, _, _ = run(
        *("bench", "--model", "mine", "--dtype", "int8", "--batches", "8", "1"),
        *("--context", "7", "--new-tokens", "5", "--rounds", "3"),
    )
    assert code == 0
    assert asked == [("mine", "int8"), (1, 7, 5, 3, 24e9), (8, 7, 5, 3, 24e9)]


def test_the_table_has_speed_time_limit_and_bandwidth(asked, run):
    _, out, _ = run("bench", "--batches", "3")
    for figure in ("123.4", "8.50", "62%", "77.7", "206", "9.1", "24.0 GB/s"):
        assert figure in out
    assert "float32" in out


def test_json_is_one_document_and_nothing_else(asked, run):
    _, out, err = run("bench", "--batches", "1", "3", "--json")
    document = json.loads(out)
    assert [row["batch"] for row in document["rows"]] == [1, 3]
    assert document["rows"][0]["fraction_of_limit"] == 0.625
    assert document["bandwidth"] == 24e9
    assert {"model", "dtype", "processor", "jax", "date"} <= set(document)
    assert "measuring batch 3" in err


def test_the_picture_is_written_where_asked(asked, run, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "speed.png"
    assert run("bench", "--plot", str(file))[0] == 0
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batches", "0"], "--batches must be >= 1"),
        (["--context", "0"], "--context must be >= 1, got 0."),
        (["--new-tokens", "1"], "--new-tokens must be >= 2, got 1."),
        (["--rounds", "0"], "--rounds must be >= 1, got 0."),
        (["--plot", "speed.txt"], "plot: `path` must end in one of"),
        (["--plot", "/no/such/speed.png"], "/no/such: no such folder."),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(argv, message, asked, run):
    if "--plot" in argv:
        pytest.importorskip("matplotlib")
    code, out, err = run("bench", *argv)
    assert (code, out, asked) == (2, "", [])
    assert err.startswith(f"jaxdecode: {message}")
    assert err.count("\n") == 1


def test_a_picture_without_matplotlib_names_the_extra(asked, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run("bench", "--plot", "speed.png")
    assert (code, asked) == (2, [])
    assert "pip install 'jaxdecode[plot]'" in err
