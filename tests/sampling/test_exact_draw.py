"""The token drawn is `jax.random.categorical(step_key, row)`, by whatever path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from tests.reference import truncation
from tests.reference.chi_square import chi_square_tail
from tests.rows import V, batch

ROWS = batch()
COUNT = len(ROWS)

# name: what `joint` is given; every kind of work a draw knows, and mixtures of them
SETTINGS = {
    "plain": {},
    "hot": {"temperature": 1.7},
    "top-k": {"top_k": 5, "temperature": 0.8},
    "top-p": {"top_p": 0.83},
    "min-p": {"min_p": 0.11, "temperature": 1.3},
    "all": {"top_k": 11, "top_p": 0.9, "min_p": 0.01, "temperature": 0.7},
    "greedy": {"temperature": 0.0},
    "mixed rows": {
        "top_k": [0, 3, 0, 7] * 3,
        "top_p": [1.0, 0.9, 0.6] * 4,
        "temperature": [0.0, 1.0, 0.9, 2.0, 1.1, 0.5] * 2,
    },
}


def categorical(keys, rows):
    """One token for each row by its own call: no `vmap`, which some keys feel."""
    return [int(jax.random.categorical(keys[i], rows[i])) for i in range(len(rows))]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_draw_is_categorical_on_the_processed_row(name):
    sampler = jd.joint(**SETTINGS[name])
    processed = jd.apply(sampler, ROWS)
    for seed in range(3):
        keys = jax.random.split(jax.random.key(seed), COUNT)
        expected = categorical(keys, processed)
        if name == "greedy":
            expected = np.argmax(ROWS, axis=1).tolist()
        assert jd.sample(sampler, ROWS, keys).tolist() == expected


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_draw_is_categorical_for_every_kind_of_key(impl):
    keys = jnp.stack([jax.random.key(s, impl=impl) for s in range(COUNT)])
    for sampler in (jd.joint(), jd.joint(top_k=7, temperature=1.5)):
        expected = categorical(keys, jd.apply(sampler, ROWS))
        assert jd.sample(sampler, ROWS, keys).tolist() == expected


def test_a_draw_is_categorical_without_partitionable_threefry():
    with jax.threefry_partitionable(False):
        keys = jax.random.split(jax.random.key(5), COUNT)
        for sampler in (jd.joint(), jd.joint(top_k=7, temperature=1.5)):
            expected = categorical(keys, jd.apply(sampler, ROWS))
            assert jd.sample(sampler, ROWS, keys).tolist() == expected


def chi_square(counts, probs):
    """The p-value of counts under probabilities, cells of less than 5 put together."""
    expected = probs * counts.sum()
    assert counts[probs == 0].sum() == 0, "a token of probability 0 was drawn"
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], max(expected[rare].sum(), 1e-9))
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    return chi_square_tail(statistic, max(len(observed) - 1, 1))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("top-p", 0), ("all", 5)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("plain", 4), ("min-p", 4), ("hot", 2), ("all", 0))
        ),
    ],
)
def test_200_000_draws_have_the_exact_distribution(name, kind):
    """False alarm in one of a million; the key is fixed."""
    settings = SETTINGS[name]
    row = [float(z) for z in ROWS[kind]]
    row = truncation.top_k(row, settings.get("top_k", 0))
    row = truncation.top_p(row, settings.get("top_p", 1.0))
    row = truncation.min_p(row, settings.get("min_p", 0.0))
    row = truncation.temperature(row, settings.get("temperature", 1.0))
    probs = np.asarray(truncation.softmax(row))

    rows = np.broadcast_to(ROWS[kind], (200_000, V))
    drawn = jd.sample(jd.joint(**settings), rows, jax.random.key(11))
    counts = np.bincount(np.asarray(drawn), minlength=V)
    assert chi_square(counts, probs) > 1e-6


INVALID = {
    "NaN": lambda row: np.where(np.arange(V) == 7, np.nan, row),
    "+inf": lambda row: np.where(np.arange(V) == 7, np.inf, row),
    "all banned": lambda row: np.full(V, -np.inf),
}


@pytest.mark.parametrize("name", ["plain", "all", "greedy"])
@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_row_draws_minus_one(kind, name):
    rows = ROWS.copy()
    rows[3] = INVALID[kind](ROWS[0]).astype(np.float32)
    sampler = jd.joint(**SETTINGS[name])
    with_invalid = jd.sample(sampler, rows, 3)
    without = jd.sample(sampler, ROWS, 3)
    assert with_invalid[3] == -1
    assert np.array_equal(np.delete(with_invalid, 3), np.delete(without, 3))


def test_a_row_whose_last_token_a_link_bans_draws_minus_one():
    one_left = np.full((1, V), -np.inf, np.float32)
    one_left[0, 4] = 1.0
    assert jd.sample(jd.BanTokens([4]), one_left, 0).tolist() == [-1]
