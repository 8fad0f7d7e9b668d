"""`jaxdecode models`, in a cache folder of its own and without network."""

import io
import shutil
import sys
from pathlib import Path

import pytest

from jaxdecode import weights

NAME = "smollm2-135m"


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Return where the default model's file would be kept."""
    monkeypatch.setenv("JAXDECODE_CACHE", str(tmp_path))
    known = weights.KNOWN[NAME]
    monkeypatch.delenv(known.variable, raising=False)
    known.place.parent.mkdir(parents=True)
    return known.place


def test_the_list_names_every_model_with_size_and_licence(kept, run):
    code, out, _ = run("models")
    assert code == 0
    assert all(name in out for name in (NAME, "93 MB", "Apache-2.0"))


def test_the_list_says_where_a_model_is(kept, run, monkeypatch):
    file = kept.parent / "mine.gguf"
    file.write_bytes(b"")
    monkeypatch.setenv(weights.KNOWN[NAME].variable, str(file))
    assert f"{file} (environment)" in run("models", "list")[1]


def test_the_path_of_a_model_is_printed_alone(kept, run, monkeypatch):
    monkeypatch.setenv(weights.KNOWN[NAME].variable, str(kept.parent))
    assert run("models", "path", NAME) == (0, f"{kept.parent}\n", "")


def test_a_model_that_is_not_here_has_no_path(kept, run, monkeypatch):
    from jaxdecode.weights import registry

    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    code, out, err = run("models", "path", NAME)
    assert (code, out) == (2, "")
    assert f"jaxdecode models fetch {NAME}" in err


def test_fetch_prints_where_the_model_is(kept, run, monkeypatch):
    monkeypatch.setenv(weights.KNOWN[NAME].variable, str(kept.parent))
    assert run("models", "fetch", NAME) == (0, f"{kept.parent}\n", "")


def test_remove_deletes_and_names_the_file(kept, run):
    kept.write_bytes(b"x")
    assert run("models", "remove", NAME, "--yes") == (0, f"{kept}\n", "")
    assert not kept.exists()


def test_remove_asks_first_and_takes_silence_for_no(kept, run, monkeypatch):
    kept.write_bytes(b"x")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    code, out, err = run("models", "remove", NAME)
    assert (code, out) == (0, "")
    assert "nothing was deleted" in err
    assert kept.exists()


def test_remove_will_not_delete_where_it_cannot_ask(kept, run, monkeypatch):
    kept.write_bytes(b"x")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = run("models", "remove", NAME)
    assert (code, kept.exists()) == (2, True)
    assert "--yes" in err


def test_show_prints_a_line_for_everything_that_is_known(run):
    folder = Path(__file__).parents[1] / "golden" / "tiny_llama"
    code, out, err = run("models", "show", str(folder))
    assert (code, err) == (0, "")
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    expected = "path architecture name sizes parameters dtypes tokenizer template"
    assert set(expected.split()) < set(lines)
    assert lines["unsupported"].strip() == "nothing"
    assert "eos 3" in lines["special ids"]


def test_show_of_a_known_model_downloads_nothing(kept, run, monkeypatch):
    from jaxdecode.weights import registry

    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    code, out, _ = run("models", "show", NAME)
    assert code == 0
    assert "Apache-2.0" in out
    assert f"not on this machine; `jaxdecode models fetch {NAME}` gets it" in out


@pytest.mark.parametrize("name", ["smollm2-136m", "./nothing"])
def test_show_of_nothing_is_an_error_of_one_line(run, name):
    code, out, err = run("models", "show", name)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_show_prints_no_line_end_or_control_character_of_a_file(run, tmp_path):
    shutil.copytree(
        Path(__file__).parents[1] / "golden" / "tiny_llama", tmp_path / "a\nb\x1b[31m"
    )
    out = run("models", "show", str(tmp_path / "a\nb\x1b[31m"))[1]
    assert "\x1b" not in out
    assert "a b [31m" in out
