"""`jaxdecode batch`: options, files and messages; what it writes is tested elsewhere."""

import json

import pytest

from jaxdecode import text
from jaxdecode.cli import runtime
from tests.engine.engine_cases import language_model

SIZES = ["--slots", "3", "--length", "48", "--chunk", "4"]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(text, "load", lambda name, *, dtype: language_model())
    monkeypatch.setattr(runtime, "start_jax", lambda: None)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    lines = [{"id": f"r{i}", "prompt": "ab", "max_tokens": 3} for i in range(5)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{bad\n")
    return str(path)


def test_a_file_is_answered_and_shards_are_merged(tiny, run, source, tmp_path):
    target, stats = str(tmp_path / "out.jsonl"), str(tmp_path / "stats.json")
    code, out, err = run("batch", source, target, *SIZES, "--stats", stats)
    assert (code, out, err) == (0, "", "")
    whole = (tmp_path / "out.jsonl").read_bytes()
    assert [json.loads(x)["id"] for x in whole.splitlines()] == [
        *(f"r{i}" for i in range(5)),
        None,
    ]
    found = json.loads((tmp_path / "stats.json").read_text())
    assert (found["answered"], found["failed"]) == (6, 1)
    assert found["fraction_of_limit"] > 0
    parts = [str(tmp_path / f"part{i}") for i in range(2)]
    for i, part in enumerate(parts):
        assert run("batch", source, part, *SIZES, "--shard", f"{i}/2")[0] == 0
    merged = str(tmp_path / "all")
    assert run("batch", "merge", merged, *parts, "--source", source) == (0, "", "")
    assert (tmp_path / "all").read_bytes() == whole


def test_another_seed_is_another_run(tiny, run, source, tmp_path):
    target = str(tmp_path / "out.jsonl")
    run("batch", source, target, *SIZES)
    code, _, err = run("batch", source, target, *SIZES, "--seed", "3")
    assert code == 2
    assert "other settings" in err
    assert "Traceback" not in err
    assert run("batch", source, target, *SIZES, "--seed", "3", "--restart")[0] == 0


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--shard", "2/2"], "--shard"),
        (["--shard", "x"], "--shard"),
        (["--slots", "0"], "--slots"),
        (["--temperature", "-1"], "Temperature"),
        (["--seed", "-1"], "seed"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
    ],
)
def test_a_bad_option_is_named(tiny, run, source, tmp_path, argv, part):
    code, _, err = run("batch", source, str(tmp_path / "out"), *argv)
    assert code == 2
    assert part in err
    assert not (tmp_path / "out").exists()


def test_bad_files_are_named(tiny, run, source, tmp_path):
    assert "no such file" in run("batch", str(tmp_path / "none"), "out")[2]
    assert "no such folder" in run("batch", source, str(tmp_path / "a" / "b"))[2]
    assert "another file" in run("batch", source, source)[2]
    assert run("batch", "merge", str(tmp_path / "all"))[0] == 2
    assert run("batch", "merge", str(tmp_path / "all"), str(tmp_path / "x"))[0] == 2
    assert not (tmp_path / "all").exists()
