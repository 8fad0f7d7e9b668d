"""The whole command with the default model."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.model


def write(*argv):
    """Go on with a text for a few tokens: (output, errors)."""
    command = [sys.executable, "-m", "jaxdecode", *argv, "--max-new-tokens", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_the_same_seed_writes_the_same_text_in_another_process():
    first, _ = write("generate", "Once upon a time", "--seed", "5")
    again, errors = write("generate", "Once upon a time", "--seed", "5", "--stats")
    assert again == first
    assert len(first.split()) > 3
    # How long it takes depends on the machine; that it is told does not.
    assert re.match(
        r"first token after \d+\.\d\d s; 12 tokens; ended by length", errors
    )


def test_a_question_is_answered():
    answer, _ = write("chat", "What is the capital of France?", "--temperature", "0")
    assert "Paris" in answer
