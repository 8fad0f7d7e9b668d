"""Links that look at the text: matches kept step by step are those found afresh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.transforms.ngrams import suffix_matches
from tests.reference import history

V = 37
RNG = np.random.default_rng(8)
TEXTS = {
    "two letters": RNG.integers(0, 2, 53).tolist(),
    "four letters": RNG.integers(0, 4, 53).tolist(),
    "one letter": [3] * 53,
    "period of three": [1, 2, 3] * 17,
    "no repetition": list(range(37)),
    "one token": [5],
    "nothing": [],
}


@pytest.mark.parametrize("name", TEXTS)
def test_suffix_matches_are_those_of_a_plain_search(name):
    text = TEXTS[name]
    padded = np.full(61, 1, np.int32)  # what stands behind the text is no part of it
    padded[: len(text)] = text
    found = jax.jit(suffix_matches)(padded, np.int32(len(text)))
    expected = [history.common_suffix(text[:i], text) for i in range(len(text))]
    assert found[: len(text)].tolist() == expected


LINKS = {
    "DRY": (
        jd.DRY(0.7, 1.3, 2, breakers=[0]),
        lambda row, text: history.dry(row, text, 0.7, 1.3, 2, breakers=[0]),
    ),
    "DRY in a window": (
        jd.DRY(0.7, 1.3, 1, window=20),
        lambda row, text: history.dry(row, text, 0.7, 1.3, 1, window=20),
    ),
    "NoRepeatNGram": (
        jd.NoRepeatNGram(4),
        lambda row, text: history.no_repeat_ngram(row, text, 4),
    ),
}


def same_logits(params, tokens, positions, cache):
    return jnp.broadcast_to(params, (*tokens.shape, V)), cache


FEW_WORDS = np.where(np.arange(V) < 4, 3.0, -3.0).astype(np.float32)
MODEL = jd.from_function(
    same_logits,
    jnp.asarray(FEW_WORDS),
    vocab_size=V,
    max_length=256,
    init_cache=lambda rows, length: jnp.zeros((rows, 1)),
)


@pytest.mark.parametrize("name", LINKS)
def test_a_text_drawn_in_the_loop_is_that_of_the_plain_reference(name):
    """Long enough that a state updated in place, wrongly, would show."""
    link, oracle = LINKS[name]
    prompts = [[1, 2, 1, 2], [3]]
    out = jd.generate(MODEL, prompts, 5, sampler=link, max_new_tokens=90)
    for b, prompt in enumerate(prompts):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), b), 0)
        text = list(prompt)
        for _ in range(90):
            row = np.asarray(oracle([float(z) for z in FEW_WORDS], text), np.float32)
            step_key = jax.random.fold_in(key, len(text))
            text.append(int(jnp.argmax(row + jax.random.gumbel(step_key, (V,)))))
        assert out.tokens[b].tolist() == text[len(prompt) :]


def test_dry_never_bans():
    """The exponent is clipped, and what is left of a huge penalty is finite."""
    rows = np.zeros((1, V), np.float32)
    text = [[1] * 200]
    done = jd.apply(jd.DRY(1e30, 5.0, 0), rows, prompts=text)
    assert np.isfinite(np.asarray(done)).all()


def test_dry_parameters_may_differ_by_row():
    rows = np.zeros((2, V), np.float32)
    text = [TEXTS["two letters"]] * 2
    link = jd.DRY([0.8, 0.2], [1.5, 1.1], [1, 3], window=[50, 9])
    done = np.asarray(jd.apply(link, rows, prompts=text))
    for got, values in zip(done, [(0.8, 1.5, 1, 50), (0.2, 1.1, 3, 9)], strict=True):
        expected = history.dry([0.0] * V, text[0], *values)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_banned_sequence_is_never_drawn_in_a_text():
    words = [[1, 2], [3, 3, 3], [0]]
    out = jd.generate(
        MODEL, [[1]] * 8, 2, sampler=jd.BanSequences(words), max_new_tokens=60
    )
    for row in out.tokens.tolist():
        text = [1, *row]
        for word in words:
            size = len(word)
            assert all(text[i : i + size] != word for i in range(len(text) - size + 1))


def test_forced_tokens_come_at_their_places_whatever_the_prompt():
    sampler = jd.ForcedTokens({0: 30, 3: [11, 12], 5: 9}, count_prompt=False)
    out = jd.generate(MODEL, [[1], [1, 2, 3]], 2, sampler=sampler, max_new_tokens=7)
    for row in out.tokens.tolist():
        assert (row[0], row[5]) == (30, 9)
        assert row[3] in (11, 12)


def test_forced_tokens_may_count_the_prompt():
    sampler = jd.ForcedTokens({3: 30})
    out = jd.generate(MODEL, [[1], [1, 2, 3]], 2, sampler=sampler, max_new_tokens=7)
    assert (out.tokens[0, 2], out.tokens[1, 0]) == (30, 30)


def test_suppressed_tokens_come_later_only():
    rows = np.zeros((2, V), np.float32)
    done = jd.apply(jd.SuppressAtBegin([4, 5]), rows, generated=[[], [1]])
    assert np.isinf(np.asarray(done)).tolist() == [
        [i in (4, 5) for i in range(V)],
        [False] * V,
    ]
