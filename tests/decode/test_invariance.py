"""A row's text does not know the batch: not its size, place, neighbours or padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core import keys as core_keys
from jaxdecode.decode import rows
from tests import tiny

SAMPLER = jd.joint(top_k=11, top_p=0.95, temperature=1.4, frequency_penalty=0.3)
# Draws in the same way from a smaller program: for what does not ask about truncations.
PLAIN = jd.chain(jd.FrequencyPenalty(0.3), jd.Temperature(1.4))
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [10, 11], [12] * 13]
KEYS = jax.random.split(jax.random.key(17), len(PROMPTS))
STEPS = 9


def run(order, model=None, sampler=SAMPLER):
    model = model or tiny.llama()
    prompts = [PROMPTS[i] for i in order]
    keys = KEYS[jnp.asarray(order)]
    return jd.generate(model, prompts, keys, sampler=sampler, max_new_tokens=STEPS)


@pytest.mark.optimized
def test_a_row_is_the_same_at_any_place_with_any_neighbours():
    rows = {i: np.asarray(run([i, i, i]).tokens[0]) for i in range(len(PROMPTS))}
    for order in ([0, 1, 2], [2, 1, 0], [3, 4, 0], [1, 3, 1], [4, 2, 3]):
        tokens = np.asarray(run(order).tokens)
        for place, i in enumerate(order):
            np.testing.assert_array_equal(tokens[place], rows[i])


def test_a_row_alone_draws_from_the_same_noise_as_in_a_batch():
    together = np.asarray(run(range(len(PROMPTS)), sampler=PLAIN).tokens)
    for i in range(len(PROMPTS)):
        lone = np.asarray(run([i], sampler=PLAIN).tokens[0])
        np.testing.assert_array_equal(lone, together[i])


def test_a_wider_padding_bucket_does_not_change_a_row():
    lone = np.asarray(run([1], sampler=PLAIN).tokens[0])
    long = [*range(20)]
    keys = jnp.stack([KEYS[1], KEYS[0]])
    out = jd.generate(
        tiny.llama(), [PROMPTS[1], long], keys, sampler=PLAIN, max_new_tokens=STEPS
    )
    np.testing.assert_array_equal(np.asarray(out.tokens[0]), lone)


def test_the_invariance_test_can_fail(monkeypatch):
    """With one key for the whole batch, as many samplers do it, rows know the batch."""

    def shared_noise(row_keys, positions):
        step = jax.vmap(jax.random.fold_in)(row_keys, positions)
        data = jax.random.key_data(step)
        return jax.random.wrap_key_data(data + jnp.sum(data, axis=0, keepdims=True))

    assert rows.step_keys is core_keys.step_keys
    monkeypatch.setattr(rows, "step_keys", shared_noise)
    model = tiny.llama(seed=1)
    jax.clear_caches()  # nothing compiled with the right keys may be reused
    lone = np.asarray(run([0, 0, 0], model, PLAIN).tokens[0])
    among = np.asarray(run([0, 1, 2], model, PLAIN).tokens[0])
    jax.clear_caches()
    assert not np.array_equal(lone, among)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(jd.joint(), id="plain"),
        pytest.param(jd.joint(temperature=0), id="greedy"),
        pytest.param(SAMPLER, id="joint"),
        pytest.param(jd.MinP(0.1), id="min-p", marks=pytest.mark.slow),
    ],
)
def test_a_broken_row_ends_invalid_and_its_neighbours_do_not_change(bad, sampler):
    sick, well = tiny.bag(poison={12: bad}), tiny.bag()
    out = run([0, 4, 2], sick, sampler)
    clean = run([0, 4, 2], well, sampler)
    assert out.status[1] == jd.Status.INVALID
    assert out.lengths[1] == 0
    assert not np.asarray(out.tokens[1]).any()  # pad
    for row in (0, 2):
        drawn = np.asarray(clean.tokens[row])
        if 12 in drawn[:-1]:
            continue  # it draws the poison itself
        for name in ("tokens", "model_logprobs", "sampling_logprobs", "status"):
            np.testing.assert_array_equal(
                np.asarray(getattr(out, name)[row]),
                np.asarray(getattr(clean, name)[row]),
            )


def test_a_row_whose_every_token_is_banned_ends_invalid():
    ban = jd.chain(jd.BanTokens(range(tiny.VOCAB)), jd.joint())
    out = run([0, 1, 2], tiny.bag(), ban)
    assert (np.asarray(out.status) == jd.Status.INVALID).all()
    assert (np.asarray(out.lengths) == 0).all()


def test_a_row_that_breaks_later_keeps_what_it_had():
    model = tiny.bag(poison={9: np.nan})
    force = jd.chain(jd.LogitBias({9: 1e4}), jd.Temperature(0))
    out = jd.generate(model, [[1]], 0, sampler=force, max_new_tokens=5, pad_id=30)
    assert out.tokens[0].tolist() == [9, 30, 30, 30, 30]
    assert (int(out.lengths[0]), int(out.status[0])) == (1, jd.Status.INVALID)
