"""A language model that writes what it was asked, for tests of the command line alone."""

import pytest

from jaxdecode import text
from jaxdecode.cli import runtime
from jaxdecode.cli.main import main
from jaxdecode.core.status import Status
from jaxdecode.text.beams import TextHypothesis


class Tokenizer:
    """As much of a tokenizer as is asked for: token i is the word wi, id 2 the end."""

    def stream(self, **options):
        return self

    def bytes_of(self, token):
        return b"" if token == 2 else f"w{token} ".encode()

    def decode(self, ids, **options):
        return b"".join(map(Tokenizer().bytes_of, ids)).decode()


class Model:
    """Writes `words` (token ids) whatever it reads, and notes every call."""

    eos_ids = (2,)
    default_sampler = None

    def __init__(self, words=(5, 7, 11, 2)):
        self.words, self.calls, self.tokenizer = words, [], Tokenizer()

    def stream(self, prompt, **settings):
        self.calls.append((prompt, settings))
        self.tokenizer.stream()
        return (self.tokenizer.bytes_of(token).decode() for token in self.words)

    def stream_chat(self, messages, **settings):
        return self.stream([dict(message) for message in messages], **settings)

    def generate(self, prompt, *, num_samples, **settings):
        self.calls.append((prompt, settings))
        return [self.tokenizer.decode(self.words[i:]) for i in range(num_samples)]

    def beam_search(self, prompt, **options):
        self.calls.append((prompt, options))
        return [TextHypothesis("w5 w7", -0.5, Status.EOS, (5, 7, 2))]


@pytest.fixture
def model(monkeypatch):
    """Put a fake in the place of every model that is loaded."""
    fake = Model()
    fake.loaded = []

    def load(name, *, dtype):
        fake.loaded.append((name, dtype))
        return fake

    monkeypatch.setattr(text, "load", load)
    monkeypatch.setattr(runtime, "start_jax", lambda: None)
    return fake


@pytest.fixture
def run(capsys):
    """Return a function that runs a command line: (exit code, output, errors)."""

    def call(*argv):
        code = main(argv)
        return code, *capsys.readouterr()

    return call
