"""Which errors the user can correct, and the line that is printed for each."""

import io
import sys

import numpy as np
import pytest

from jaxdecode.cli import errors, runtime
from jaxdecode.core import check


def caught(function, *args, **kwargs):
    with pytest.raises(Exception) as info:
        function(*args, **kwargs)
    return info.value


def test_a_value_that_our_checks_refuse_is_the_users():
    error = caught(check.seed, "--seed", -1)
    assert errors.explain(error) == (
        2,
        "jaxdecode: --seed: a seed must be in [0, 4294967295], got -1.",
    )


def test_a_value_error_out_of_numpy_is_ours():
    error = caught(np.zeros(3).reshape, 2)
    code, line = errors.explain(error)
    assert code == 1
    assert line.startswith("jaxdecode: unexpected ValueError: cannot reshape")
    assert "JAXDECODE_TRACEBACK=1" in line


def test_a_missing_file_is_named_without_its_number():
    error = caught(open, "/no/such/file")
    assert errors.explain(error) == (
        2,
        "jaxdecode: No such file or directory: /no/such/file",
    )


def test_a_message_of_several_lines_becomes_one():
    assert errors.explain(OSError("first\n  second"))[1] == "jaxdecode: first second"


def test_an_error_without_a_message_is_named():
    assert "unexpected KeyError: KeyError" in errors.explain(KeyError())[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["generate", ""], "the prompt must not be empty"),
        (["generate", "-"], "the prompt must not be empty"),
        (["chat", ""], "the message must not be empty"),
        (["chat", "-"], "the message must not be empty"),
        (["generate", "a", "--temperature", "nan"], "Temperature: `t` must be >= 0"),
        (
            ["generate", "a", "--seed", "-1"],
            "--seed: a seed must be in [0, 4294967295]",
        ),
        (["generate", "a", "--max-new-tokens", "0"], "--max-new-tokens must be >= 1"),
        (["generate", "a", "--num-samples", "0"], "--num-samples must be >= 1, got 0."),
        (["generate", "a", "--logit-bias", "x"], "--logit-bias must be ID=VALUE"),
        (["generate", "a", "--min-new-tokens", "-1"], "MinNewTokens: `n` must be >= 0"),
        (["generate", "a", "--ban-tokens", "-1"], "BanTokens: `ids` must be >= 0"),
        (["generate", "a", "--model", "/no/such"], "/no/such: no such file or folder"),
        (["models", "path", "gpt5"], "unknown model 'gpt5'"),
        (["models", "fetch", "gpt5"], "unknown model 'gpt5'"),
        (["models", "remove", "gpt5", "--yes"], "unknown model 'gpt5'"),
    ],
)
def test_a_value_that_cannot_be_is_one_line(argv, message, run, monkeypatch):
    monkeypatch.setattr(runtime, "start_jax", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"jaxdecode: {message}")
    assert err.count("\n") == 1
