"""XTC's coin and the watermark: what chance may do, counted."""

import itertools
import math

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.transforms.xtc import COIN
from tests.reference import history

V = 37
ROW = np.linspace(3.0, -3.0, V).astype(np.float32)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.8, 1.0])
def test_xtc_acts_as_often_as_its_probability_says(probability):
    """Five standard deviations: a false alarm in two million; the key is fixed."""
    count = 20_000
    rows = np.broadcast_to(ROW, (count, V))
    done = jd.apply(jd.XTC(0.05, probability), rows, key=jax.random.key(1))
    acted = np.isinf(np.asarray(done)[:, 0]).mean()
    spread = math.sqrt(probability * (1 - probability) / count)
    assert abs(acted - probability) <= 5 * spread


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_the_coin_of_xtc_is_a_number_of_the_step_key(impl):
    keys = [jax.random.key(s, impl=impl) for s in range(40)]
    done = jd.apply(jd.XTC(0.05, 0.5), np.broadcast_to(ROW, (40, V)), key=keys)
    for row, key in zip(np.asarray(done), keys, strict=True):
        coin = jax.random.uniform(jax.random.fold_in(key, COIN))
        assert np.isinf(row[0]) == (coin < 0.5)


def test_xtc_does_not_change_the_draw_where_it_does_not_act():
    rows = np.broadcast_to(ROW, (200, V))
    plain = jd.sample(jd.chain(), rows, 3)
    idle = jd.sample(jd.XTC(0.05, 0.0), rows, 3)
    assert np.array_equal(plain, idle)


def marked_text(bias, length=200):
    """A text drawn from flat logits under a watermark, by the plain reference."""
    rng, text = np.random.default_rng(3), [1]
    for _ in range(length):
        row = history.watermarked([0.0] * V, text, bias, 0.25, 99)
        weights = np.exp(row)
        text.append(int(rng.choice(V, p=weights / weights.sum())))
    return text


def test_detection_counts_green_tokens():
    text = marked_text(2.0)
    found = jd.detect_watermark(text, jd.Watermark(2.0, 0.25, 99), count_repeats=True)
    pairs = list(itertools.pairwise(text))
    green = sum(history.is_green(99, last, token, 0.25) for last, token in pairs)
    z = (green - 0.25 * 200) / math.sqrt(200 * 0.25 * 0.75)
    assert (found.green, found.counted) == (green, 200)
    assert found.z == pytest.approx(z)
    assert found.p_value == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)))


def test_a_marked_text_is_told_from_an_unmarked_one_and_from_another_seed():
    watermark, other = jd.Watermark(2.0, 0.25, 99), jd.Watermark(2.0, 0.25, 100)
    assert jd.detect_watermark(marked_text(2.0), watermark).p_value < 1e-6
    assert jd.detect_watermark(marked_text(0.0), watermark).p_value > 1e-3
    assert jd.detect_watermark(marked_text(2.0), other).p_value > 1e-3


def test_a_generated_text_carries_its_mark():
    watermark = jd.Watermark(4.0, 0.5, 7)
    model = jd.from_function(
        lambda params, tokens, positions, cache: (params[tokens], cache),
        np.random.default_rng(0).normal(size=(V, V)).astype(np.float32),
        vocab_size=V,
        max_length=128,
        init_cache=lambda rows, length: np.zeros((rows, 1), np.float32),
    )
    out = jd.generate(model, [[1]], 0, sampler=watermark, max_new_tokens=100)
    text = [1, *out.tokens[0].tolist()]
    assert jd.detect_watermark(text, watermark).z > 5


def test_green_tokens_are_as_many_as_the_fraction_says():
    counts = [history.is_green(5, 9, token, 0.3) for token in range(20_000)]
    assert abs(np.mean(counts) - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 20_000)


def test_an_empty_text_tells_nothing():
    found = jd.detect_watermark([], jd.Watermark(2.0))
    assert (found.green, found.counted, found.z, found.p_value) == (0, 0, 0.0, 0.5)
