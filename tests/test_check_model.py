"""`check_model` finds what is wrong with a model, and `generate` what shapes can tell."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.testing import ModelCheckError, check_model
from jaxdecode.testing.models import CHECKS
from tests import tiny
from tests.models.toys import (
    PROMPTS,
    SIZES,
    VOCAB,
    WIDTH,
    batched,
    embed,
    make_cache,
    make_params,
    mix,
    with_cache,
)

PARAMS = make_params()


def sound(function=with_cache, init_cache=make_cache, **sizes):
    return jd.from_function(function, PARAMS, init_cache=init_cache, **SIZES | sizes)


def attend(params, tokens, positions, cache, *, sees, places=None):
    """`with_cache` with another rule of what is seen, or of where a token is put."""

    def row(tokens, positions, place, cache):
        x = embed(params, tokens, positions)
        cache = cache.at[place].set(x, mode="drop")
        columns = jnp.arange(cache.shape[0], dtype=jnp.int32)
        return mix(params | {"kept": cache}, x, sees(columns, positions, cache)), cache

    places = positions if places is None else places
    return jax.vmap(row)(tokens, positions, places, cache)


def looks_ahead(params, tokens, positions, cache):
    def sees(columns, positions, cache):
        return columns[None] <= positions[:, None] + 1

    return attend(params, tokens, positions, cache, sees=sees)


def sees_stale_columns(params, tokens, positions, cache):
    def sees(columns, positions, cache):
        written = jnp.any(cache != 0.0, axis=-1)[None]
        return jnp.where(
            len(positions) > 1, columns[None] <= positions[:, None], written
        )

    return attend(params, tokens, positions, cache, sees=sees)


def one_index(params, tokens, positions, cache):
    shared = jnp.broadcast_to(positions[:1], positions.shape)
    return with_cache(params, tokens, shared, cache)


def mixes_rows(params, tokens, positions, cache):
    logits, cache = with_cache(params, tokens, positions, cache)
    return logits - 0.1 * jnp.mean(logits, axis=0, keepdims=True), cache


def counts_up(params, tokens, positions, cache):
    """Puts tokens where its own counter stands, whatever the positions say."""
    kept, count = cache
    columns = count[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    logits, kept = with_cache(params, tokens, columns, kept)
    return logits, (kept, count + tokens.shape[1])


def counted_cache(rows, length):
    return make_cache(rows, length), jnp.zeros((rows,), jnp.int32)


def moves_on(params, tokens, positions, cache):
    """A recurrent state without a memory of what was before the last token."""

    def step(state, token):
        state = 0.7 * state + params["table"][token]
        return state, jnp.tanh(state) @ params["head"]

    state, logits = jax.lax.scan(step, cache, tokens.T)
    return jnp.swapaxes(logits, 0, 1), state


def forgets(params, tokens, positions, cache):
    """Returns the cache it was given: parts of a text do not see each other."""
    return with_cache(params, tokens, positions, cache)[0], cache


def knows_its_row(params, tokens, positions, cache):
    logits, cache = with_cache(params, tokens, positions, cache)
    row = jnp.arange(tokens.shape[0], dtype=jnp.float32)
    return logits + 0.1 * row[:, None, None] * logits, cache


def breaks(params, tokens, positions, cache):
    logits, cache = with_cache(params, tokens, positions, cache)
    return jnp.where(positions[..., None] > 1, jnp.nan, logits), cache


@dataclasses.dataclass
class Ignoring:
    """A model whose call takes `at` and returns the last column."""

    inner: object
    vocab_size = VOCAB
    max_length = SIZES["max_length"]

    def init_cache(self, rows, length):
        return self.inner.init_cache(rows, length)

    def __call__(self, tokens, positions, cache, *, at=None):
        logits, cache = self.inner(tokens, positions, cache)
        return (logits if at is None else logits[:, -1]), cache


BROKEN = {  # the model, and a check that must find it
    "looks ahead": (sound(looks_ahead), "causal"),
    "index shared by the batch": (sound(one_index), "rows alone"),
    "rows mixed": (sound(mixes_rows), "rows apart"),
    "positions ignored": (sound(counts_up, counted_cache), "again"),
    "state not repeatable": (
        sound(moves_on, lambda rows, length: jnp.zeros((rows, WIDTH))),
        "again",
    ),
    "stale columns visible": (sound(sees_stale_columns), "stale columns"),
    "parts forgotten": (sound(forgets), "parts"),
    "a row knows its number": (sound(knows_its_row), "repeat"),
    "not finite": (sound(breaks), "finite"),
    "another column than `at`": (Ignoring(sound()), "at"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_found_and_named(name):
    model, check = BROKEN[name]
    with pytest.raises(ModelCheckError) as caught:
        check_model(model)
    assert check in caught.value.failures
    assert f"{check}: " in str(caught.value)


@pytest.mark.parametrize("seed", range(3))
def test_sound_models_pass(seed):
    check_model(sound(), seed=seed)
    check_model(jd.from_logits_function(batched, PARAMS, **SIZES), seed=seed)


def test_every_check_finds_something_that_no_other_message_hides():
    found = {name: set() for name in BROKEN}
    for name, (model, _) in BROKEN.items():
        with pytest.raises(ModelCheckError) as caught:
            check_model(model)
        found[name] = set(caught.value.failures)
    assert set.union(*found.values()) == set(CHECKS)


# ---- what shapes tell, before anything compiles ----


class Plain:
    """A model by hand; a test changes one part of it."""

    vocab_size, max_length = VOCAB, SIZES["max_length"]

    def init_cache(self, rows, length):
        return {"k": make_cache(rows, length)}

    def __call__(self, tokens, positions, cache, *, at=None):
        logits, kept = with_cache(PARAMS, tokens, positions, cache["k"])
        logits = logits if at is None else logits[jnp.arange(len(at)), at]
        return logits, {"k": kept}


class NoAt(Plain):
    def __call__(self, tokens, positions, cache):
        return super().__call__(tokens, positions, cache)


class AtIgnored(Plain):
    def __call__(self, tokens, positions, cache, *, at=None):
        return super().__call__(tokens, positions, cache)


class LayersFirst(Plain):
    def init_cache(self, rows, length):
        return {"k": jnp.zeros((4, rows, length, WIDTH))}


class OtherVocabulary(Plain):
    vocab_size = VOCAB + 4


class OtherCache(Plain):
    def __call__(self, tokens, positions, cache, *, at=None):
        logits, cache = super().__call__(tokens, positions, cache, at=at)
        return logits, {"k": cache["k"].astype(jnp.bfloat16)}


class NoCache(Plain):
    def __call__(self, tokens, positions, cache, *, at=None):
        return super().__call__(tokens, positions, cache, at=at)[0]


class Integers(Plain):
    def __call__(self, tokens, positions, cache, *, at=None):
        logits, cache = super().__call__(tokens, positions, cache, at=at)
        return logits.astype(jnp.int32), cache


WRONG = {
    NoAt: "a call must take `at`",
    AtIgnored: r"got \(2, 16, 13\): `at` is ignored",
    LayersFirst: r"row axis first \(2 rows\), got shape \(4, 2, 24, 6\) at cache\['k'\]",
    OtherVocabulary: "must have vocab_size = 17 entries, got 13",
    OtherCache: r"float32\[2, 24, 6\] at cache\['k'\], got bfloat16\[2, 24, 6\]",
    NoCache: r"must return \(logits, cache\)",
    Integers: "must be floating-point, got int32",
}
ENTRIES = {
    "generate": lambda model: jd.generate(model, PROMPTS, 0),
    "beam_search": lambda model: jd.beam_search(model, PROMPTS, num_beams=2),
    "score": lambda model: jd.score(model, PROMPTS, PROMPTS),
    "stream": lambda model: next(iter(jd.stream(model, PROMPTS, 0))),
    "check_model": check_model,
}


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_a_wrong_shape_is_named_with_the_entry_before_anything_compiles(kind):
    for entry, call in ENTRIES.items():
        with (
            jd.testing.count_compiles() as compiles,
            pytest.raises(ValueError, match=f"^{entry}: `model`: .*{WRONG[kind]}"),
        ):
            call(kind())
        assert compiles.count == 0


def test_an_object_without_the_protocol_is_told_of_the_adapters():
    with pytest.raises(TypeError, match="no max_length.*from_single"):
        jd.generate(type("Odd", (), {"vocab_size": 3})(), PROMPTS, 0)


class Halves(Plain):
    def __call__(self, tokens, positions, cache, *, at=None):
        logits, cache = super().__call__(tokens, positions, cache, at=at)
        return logits.astype(jnp.bfloat16), cache


def test_bfloat16_logits_are_converted():
    out = jd.generate(Halves(), PROMPTS, 0, sampler=tiny.PLAIN, max_new_tokens=4)
    assert out.model_logprobs.dtype == jnp.float32
    score = jd.score(Halves(), PROMPTS, [row.tolist() for row in out.tokens])
    np.testing.assert_allclose(score.model_logprobs, out.model_logprobs, atol=1e-5)
    plain = jd.generate(Plain(), PROMPTS, 0, sampler=tiny.PLAIN, max_new_tokens=4)
    np.testing.assert_allclose(out.model_logprobs, plain.model_logprobs, atol=0.1)


def test_a_structure_is_tried_once_and_an_error_of_the_models_own_is_left_alone():
    calls = []

    class Counting(Plain):
        def __call__(self, *args, **kwargs):
            calls.append(1)
            return super().__call__(*args, **kwargs)

    model = Counting()
    jd.generate(model, PROMPTS, 0, sampler=tiny.PLAIN, max_new_tokens=2)
    first = len(calls)
    jd.generate(model, PROMPTS, 1, sampler=tiny.PLAIN, max_new_tokens=2)
    assert len(calls) == first

    class Failing(Plain):
        def __call__(self, *args, **kwargs):
            raise KeyError("my own")

    with pytest.raises(KeyError, match="my own"):
        jd.generate(Failing(), PROMPTS, 0)
