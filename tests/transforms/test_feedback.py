"""Mirostat and adaptive-p: state advances on the token that was drawn, in every path."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from tests.reference import cutoffs, truncation
from tests.rows import kinds

V, STEPS = 211, 12
KINDS = kinds(V, seed=4)
TABLE = np.stack([KINDS[k] for k in ("normal", "wide", "tied", "peaked", "falling")])
TABLE = TABLE[np.arange(V) % len(TABLE)]  # logits after each token, [V, V]
PROMPTS = [[3], [10, 4], [1, 2, 205]]


def look_up(table, tokens, positions, cache):
    return table[tokens], cache


def no_cache(rows, length):
    return jnp.zeros((rows, 1))


BIGRAM = jd.from_function(
    look_up, jnp.asarray(TABLE), vocab_size=V, max_length=64, init_cache=no_cache
)


def drawn_tokens(sampler, seed=0):
    out = jd.generate(BIGRAM, PROMPTS, seed, sampler=sampler, max_new_tokens=STEPS)
    return np.asarray(out.tokens).tolist()


def replayed(process, advance, state, seed=0):
    """Draw the same texts with a plain loop; `process` and `advance` are the oracle."""
    texts = []
    for b, prompt in enumerate(PROMPTS):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), b), 0)
        tokens, now = list(prompt), state
        for _ in range(STEPS):
            row = [float(z) for z in TABLE[tokens[-1]]]
            processed = process(row, now)
            step_key = jax.random.fold_in(key, len(tokens))
            final = jnp.asarray(processed, jnp.float32)
            tokens.append(int(jax.random.categorical(step_key, final)))
            now = advance(row, processed, tokens[-1], now)
        texts.append(tokens[len(prompt) :])
    return texts


def mirostat_oracle(version, tau, eta, scale=1.0):
    def process(row, mu):
        scaled = [z / scale for z in row]
        return cutoffs.mirostat(scaled, mu, V, version)

    def advance(row, processed, token, mu):
        surprise = -math.log2(truncation.softmax(processed)[token])
        return mu - eta * (surprise - tau)

    return process, advance, 2 * tau


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [0.7, 2.5, 6.0])
def test_mirostat_follows_its_reference_through_a_text(version, tau):
    sampler = jd.Mirostat(tau, 0.3, version=version)
    assert drawn_tokens(sampler) == replayed(*mirostat_oracle(version, tau, 0.3))


def test_mirostat_sees_the_row_as_it_stands_at_its_place():
    sampler = jd.chain(jd.Temperature(0.5), jd.Mirostat(2.0, 0.3))
    expected = replayed(*mirostat_oracle(2, 2.0, 0.3, scale=0.5))
    assert drawn_tokens(sampler) == expected


def test_mirostat_before_an_edit_observes_too():
    """An edit behind a truncation has its own path through the draw."""
    sampler = jd.chain(jd.Mirostat(2.0, 0.3), jd.LogitBias({5: 1.5}))
    process, advance, mu = mirostat_oracle(2, 2.0, 0.3)

    def biased(row, mu):
        kept = process(row, mu)
        return [z + 1.5 if i == 5 else z for i, z in enumerate(kept)]

    def advanced(row, processed, token, mu):
        return advance(row, process(row, mu), token, mu)

    assert drawn_tokens(sampler) == replayed(biased, advanced, mu)


def test_mirostat_behind_temperature_0_is_greedy():
    sampler = jd.chain(jd.Temperature(0.0), jd.Mirostat(2.0))
    assert drawn_tokens(sampler) == drawn_tokens(jd.Temperature(0.0))


def adaptive_oracle(target, decay):
    def process(row, state):
        return cutoffs.adaptive_p(row, target, *state)

    def advance(row, processed, token, state):
        total, weight = state
        return truncation.softmax(row)[token] + decay * total, 1 + decay * weight

    return process, advance, (target / (1 - decay), 1 / (1 - decay))


@pytest.mark.parametrize(("target", "decay"), [(0.3, 0.9), (0.05, 0.5), (1.0, 0.0)])
def test_adaptive_p_follows_its_reference_through_a_text(target, decay):
    expected = replayed(*adaptive_oracle(target, decay))
    assert drawn_tokens(jd.AdaptiveP(target, decay)) == expected


def test_adaptive_p_comes_behind_a_truncation():
    sampler = jd.chain(jd.TopK(7), jd.AdaptiveP(0.4, 0.8))
    process, advance, state = adaptive_oracle(0.4, 0.8)

    def cut(row, state):
        return process(truncation.top_k(row, 7), state)

    def advanced(row, processed, token, state):
        return advance(truncation.top_k(row, 7), processed, token, state)

    assert drawn_tokens(sampler) == replayed(cut, advanced, state)


def test_a_feedback_link_does_not_feel_its_neighbours():
    sampler = jd.Mirostat([0.5, 3.0, 6.0], [0.1, 0.9, 0.3])
    together = drawn_tokens(sampler)
    for b, (tau, eta) in enumerate([(0.5, 0.1), (3.0, 0.9), (6.0, 0.3)]):
        assert drawn_tokens(jd.Mirostat(tau, eta))[b] == together[b]


def test_what_gives_a_new_order_must_be_the_last_link():
    with pytest.raises(ValueError, match=r"AdaptiveP must be the last.*Temperature"):
        jd.chain(jd.AdaptiveP(0.5), jd.Temperature(0.5))
