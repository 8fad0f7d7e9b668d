"""Bad input is refused before anything compiles, and the message says what to mend."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode import generation, request
from jaxdecode.decode.beam import request as beam_request
from tests import tiny

MODEL = tiny.llama()

BAD_PROMPTS = [
    ([], ValueError, "at least one prompt"),
    ([[]], ValueError, r"prompts\[0\].*must not be empty"),
    ([[1], []], ValueError, r"prompts\[1\].*must not be empty"),
    ([[1, 37]], ValueError, r"\[0, 36\], got 37"),
    ([[1, -1]], ValueError, "got -1"),
    ([[1.0, 2.0]], TypeError, "integers, got 1.0"),
    ([[True]], TypeError, "integers, got True"),
    ([["a"]], TypeError, "integers, got 'a'"),
    (["abc"], TypeError, "list of token ids"),
    ("abc", TypeError, "token lists"),
    ([1, 2, 3], TypeError, r"a single prompt is written \[\[...\]\]"),
    (np.asarray([1, 2]), TypeError, "single prompt"),
    (np.asarray([[1.5, 2.5]]), TypeError, "integers"),
    ([[1] * 48], ValueError, "48 positions"),
    (5, TypeError, "token lists"),
    ((np.zeros((2, 3), np.int32), np.asarray([1])), ValueError, "lengths"),
    ((np.zeros((2, 3), np.int32), np.asarray([1, 4])), ValueError, r"\[1, 3\]"),
    ((np.zeros((2, 3), np.int32), np.asarray([1, 0])), ValueError, "empty"),
    ((np.zeros((2, 3), np.float32), np.asarray([1, 2])), TypeError, "integer arrays"),
    ([[2**40]], ValueError, r"prompts\[0\]"),
]


@pytest.mark.parametrize(("prompts", "kind", "message"), BAD_PROMPTS)
def test_a_bad_prompt_is_refused(prompts, kind, message):
    with pytest.raises(kind, match=message):
        jd.generate(MODEL, prompts, 0)


BAD_OPTIONS = [
    ({"max_new_tokens": 0}, ValueError, "max_new_tokens.*>= 1, got 0"),
    ({"max_new_tokens": -3}, ValueError, "max_new_tokens"),
    ({"max_new_tokens": 1.5}, TypeError, "max_new_tokens.*integer"),
    ({"max_new_tokens": True}, TypeError, "max_new_tokens"),
    ({"max_new_tokens": None}, TypeError, "max_new_tokens"),
    ({"max_new_tokens": [1, 2, 3]}, ValueError, r"one per prompt \(2\), got 3"),
    ({"max_new_tokens": 46}, ValueError, "<= 48.*got 49 for prompt 0"),
    ({"eos_ids": [37]}, ValueError, "eos_ids.*vocabulary size 37, got 37"),
    ({"eos_ids": -1}, ValueError, "eos_ids"),
    ({"eos_ids": 1.0}, TypeError, "eos_ids"),
    ({"eos_ids": "x"}, TypeError, "eos_ids"),
    ({"pad_id": -1}, ValueError, "pad_id"),
    ({"num_samples": 0}, ValueError, "num_samples"),
    ({"num_samples": 1.5}, TypeError, "num_samples"),
    ({"num_samples": [1, 2]}, TypeError, "num_samples"),
    ({"loop": "for"}, ValueError, "'while', 'scan', got 'for'"),
    ({"new_tokens_max": 3}, ValueError, "new_tokens_max"),
    ({"sampler": jd.joint(top_k=[1, 2, 3])}, ValueError, r"TopK: `k`.*\(2\), got 3"),
    ({"sampler": jd.BanTokens([40])}, ValueError, "BanTokens: `ids`.*37, got 40"),
    ({"sampler": jd.LogitBias({40: 1.0})}, ValueError, "LogitBias.*got 40"),
    ({"sampler": jd.LogitBias(np.zeros(36))}, ValueError, r"\(37\), got 36"),
    ({"sampler": "top_k"}, TypeError, "must be a link"),
    ({"sampler": jd.TopK}, TypeError, r"write TopK\(...\)"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD_OPTIONS)
def test_a_bad_option_is_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        jd.generate(MODEL, [[1, 2, 3], [4]], 0, **{"max_new_tokens": 4} | options)


BAD_KEYS = [
    (-1, ValueError, r"\[0, 4294967295\], got -1"),
    (2**32, ValueError, "got 4294967296"),
    (1.0, TypeError, "key"),
    (True, TypeError, "key"),
    (None, TypeError, "key"),
    ("0", TypeError, "key"),
    ([1, 2, 3], ValueError, r"one per prompt \(2\)"),
    ([1, -2], ValueError, "got -2"),
    (jax.random.split(jax.random.key(0), 3), ValueError, r"\(2\), got shape \(3,\)"),
    (jnp.zeros((2,)), TypeError, "key"),
]


@pytest.mark.parametrize(("key", "kind", "message"), BAD_KEYS)
def test_a_bad_key_or_seed_is_refused(key, kind, message):
    with pytest.raises(kind, match=message):
        jd.generate(MODEL, [[1, 2, 3], [4]], key, max_new_tokens=4)


def test_nothing_compiles_before_the_checks_are_through(monkeypatch):
    def no_program(*args, **kwargs):
        raise AssertionError("a program was asked for")

    monkeypatch.setattr(generation, "_run", no_program)
    for prompts, kind, _ in BAD_PROMPTS:
        with pytest.raises(kind):
            jd.generate(MODEL, prompts, 0)
    with pytest.raises(AssertionError, match="asked for"):
        jd.generate(MODEL, [[1]], 0, max_new_tokens=4)


def test_a_thing_that_is_no_model_is_named():
    with pytest.raises(TypeError, match="`model` must have vocab_size.*int has no"):
        jd.generate(3, [[1]], 0)
    with pytest.raises(TypeError, match="type has no"):
        jd.generate(tiny.Bag, [[1]], 0)


def test_a_stream_checks_its_arguments_at_the_call():
    with pytest.raises(ValueError, match="stream: .*must not be empty"):
        jd.stream(MODEL, [[]], 0)
    with pytest.raises(ValueError, match="every"):
        jd.stream(MODEL, [[1]], 0, every=0)


DRAWN = {"sampler": tiny.PLAIN, "max_new_tokens": 3}


def test_legacy_keys_are_the_keys_they_stand_for():
    new = jd.generate(MODEL, [[1, 2]], jax.random.key(3), **DRAWN)
    old = jd.generate(MODEL, [[1, 2]], jax.random.PRNGKey(3), **DRAWN)
    np.testing.assert_array_equal(new.tokens, old.tokens)


def test_a_seed_is_the_key_of_that_seed():
    for seed in (0, 7, 2**32 - 1):
        by_seed = jd.generate(MODEL, [[1, 2]], seed, **DRAWN)
        key = jax.random.key(np.uint32(seed))
        by_key = jd.generate(MODEL, [[1, 2]], key, **DRAWN)
        np.testing.assert_array_equal(by_seed.tokens, by_key.tokens)


@pytest.mark.parametrize(
    "call",
    [jd.stream, jd.beam_sample, jd.stochastic_beam_search],
    ids=lambda call: call.__name__,
)
def test_an_unknown_argument_is_named_with_the_nearest_known_one(call):
    more = {} if call is jd.stream else {"num_beams": 2}
    wanted = f"{call.__name__}: .*got `max_new_token`; did you mean `max_new_tokens`"
    with pytest.raises(TypeError, match=wanted):
        call(MODEL, [[1]], 0, max_new_token=3, **more)


@pytest.mark.parametrize(
    ("function", "defaults"),
    [(jd.generate, request.DEFAULTS), (jd.beam_search, beam_request.DEFAULTS)],
    ids=["generate", "beam_search"],
)
def test_options_have_the_defaults_of_the_function_that_spells_them_out(
    function, defaults
):
    spelled = inspect.signature(function).parameters
    assert {name: spelled[name].default for name in defaults} == defaults
