"""Every family makes of a tiny checkpoint what Hugging Face transformers makes of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.models import build
from jaxdecode.native import is_available
from jaxdecode.weights import load_model, open_checkpoint
from tests.families.cases import CASES, NEW, prompts
from tests.families.checkpoints import GOLDEN, TABLE, empty, run, together, write

LOGITS = np.load(GOLDEN / "families.npz")
EVERY = pytest.mark.parametrize("name", CASES)
LONG = {"phi3_longrope_long": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a function from a case to the folder of its checkpoint."""
    return functools.cache(lambda name: write(tmp_path_factory.mktemp(name), name))


def load(folder, name, **options):
    if name in LONG:
        options["max_length"] = LONG[name]
    return load_model(folder(name), **options).model


def read(model, tokens, *, parts=None):
    """Logits [S, V] of one prompt, read at once or in parts of the given sizes."""
    cache, found, start = empty(model, 1), [], 0
    for size in parts or [len(tokens)]:
        columns = jnp.arange(start, start + size, dtype=jnp.int32)[None]
        part = jnp.asarray(tokens[start : start + size], jnp.int32)[None]
        logits, cache = run(model, part, columns, cache)
        found.append(logits[0])
        start += size
    return np.concatenate(found)


@EVERY
def test_logits_equal_those_of_transformers(folder, name):
    rows = prompts(CASES[name][1])
    for index, found in enumerate(together(load(folder, name), rows)):
        expected = LOGITS[f"{name}.{index}"]
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=str(index))


@pytest.mark.slow
@EVERY
def test_greedy_texts_equal_those_of_transformers(folder, name):
    rows = prompts(CASES[name][1])
    out = jd.generate(
        load(folder, name),
        rows,
        jax.random.key(0),
        sampler=jd.Temperature(0.0),
        max_new_tokens=NEW,
        eos_ids=(),
    )
    assert out.tokens.tolist() == TABLE[name]["greedy"]


@pytest.mark.slow
@pytest.mark.skipif(not is_available(), reason="there is one path without kernels")
@EVERY
def test_the_kernels_and_plain_xla_agree(folder, name):
    checkpoint = open_checkpoint(folder(name))
    tokens = prompts(CASES[name][1])[0]
    tokens = tokens[: checkpoint.config.max_length]
    found = [
        read(build(checkpoint.config, checkpoint.tensors, native=native), tokens)
        for native in (False, True)
    ]
    np.testing.assert_allclose(*found, atol=2e-5)


@pytest.mark.slow
@EVERY
def test_read_in_parts_is_read_at_once(folder, name):
    tokens, model = prompts(CASES[name][1])[1], load(folder, name)
    sizes = [4, *[1] * 3, len(tokens) - 7]
    np.testing.assert_allclose(
        read(model, tokens, parts=sizes), read(model, tokens), atol=2e-5
    )


INT8 = {"mixtral": 0.2, "qwen3_moe": 0.2}  # another expert may be chosen


@pytest.mark.slow
@EVERY
def test_int8_stays_close(folder, name):
    tokens = prompts(CASES[name][1])[0]
    exact = read(load(folder, name), tokens)
    rounded = read(load(folder, name, dtype="int8"), tokens)
    error = np.square(rounded - exact).mean() / np.square(exact).mean()
    assert 0.0 < error < INT8.get(name, 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma2", "gemma3", "smollm3", "mixtral"])
def test_beams_over_a_shared_prompt_have_the_scores_of_their_tokens(folder, name):
    model, row = load(folder, name), prompts(CASES[name][1])[1]
    beams = jd.beam_search(
        model, [row], num_beams=3, num_return=3, max_new_tokens=7, length_penalty=0.0
    )
    scored = jd.score(model, [row] * 3, beams.tokens[0].tolist())
    np.testing.assert_allclose(
        beams.scores[0], scored.model_logprobs.sum(axis=1), atol=1e-4
    )
