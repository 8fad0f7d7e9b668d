"""The real default model: its hash, its facts, and how long loading takes."""

import os
import time

import jax
import pytest

from jaxdecode.weights import load_model, resolve
from jaxdecode.weights.hashes import sha256
from jaxdecode.weights.registry import KNOWN

pytestmark = pytest.mark.model
MODEL = KNOWN["smollm2-135m"]
# Read on import: inside a test the environment is the test's own.
USERS = {name: os.environ.get(name) for name in ("JAXDECODE_CACHE", MODEL.variable)}


@pytest.fixture
def path(cache, monkeypatch):
    """Return the model's path, in the user's own cache, fetched if need be."""
    with monkeypatch.context() as users:
        for name, value in USERS.items():
            if value is None:
                users.delenv(name, raising=False)
            else:
                users.setenv(name, value)
        return resolve(MODEL.name)


def test_the_file_is_the_one_that_is_known(path):
    assert path.stat().st_size == MODEL.size
    assert sha256(path) == MODEL.sha256


def test_the_file_becomes_the_known_model_cold_and_warm(path):
    for dtype in ("float32", "bfloat16"):
        for state in ("cold", "warm"):
            start = time.perf_counter()
            loaded = load_model(path, dtype)
            jax.block_until_ready(loaded.model)
            print(f"{dtype} {state}: {time.perf_counter() - start:.2f} s")
        params = loaded.model.params
        assert sum(value.size for value in params.values()) == MODEL.parameters
        assert (loaded.eos_ids, loaded.bos_id, loaded.pad_id) == ((2, 0), 1, 2)
        assert loaded.tokenizer.metadata["pre"] == "smollm"
        assert "<|im_start|>" in loaded.chat_template
