"""Beams that are drawn: which noise they take, and how often they come."""

import itertools

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.status import Status
from jaxdecode.decode.beam import beam_sample, stochastic_beam_search
from tests.decode.beam.decay import agree, decay, hypotheses, logprobs_of
from tests.reference.beam import every_text
from tests.reference.chi_square import chi_square_tail

V, EOS = 4, 0
MODEL = decay(V, seed=5, memory=0.5, scale=1.0)
PROMPT = [1, 2]
DRAWS = 20_000


def texts(budget=3):
    """Return every text with its log-probability, in a fixed order."""
    found = every_text(logprobs_of(MODEL), PROMPT, budget=budget, eos=[EOS])
    return {tuple(tokens): total for total, tokens in found}


def test_beam_sampling_keeps_the_best_of_what_its_noise_draws():
    beams, key = 3, jax.random.key(7)
    found = beam_sample(
        MODEL, [PROMPT], key, num_beams=beams, max_new_tokens=4, num_return=3,
        length_penalty=0.0,
    )  # fmt: skip
    row_key = jax.random.fold_in(jax.random.fold_in(key, 0), 0)
    logprobs = logprobs_of(MODEL)
    running = [(0.0, [])]
    for length in range(1, 5):
        step_key = jax.random.fold_in(row_key, len(PROMPT) + length - 1)
        noise = np.asarray(jax.random.gumbel(step_key, (beams * V,)))
        pool = [
            (total + row[v] + noise[beam * V + v], total + row[v], [*tokens, v])
            for beam, (total, tokens) in enumerate(running)
            for row in [logprobs(PROMPT + tokens)]
            for v in range(V)
        ]
        drawn = sorted(pool, key=lambda c: -c[0])[: 2 * beams]
        if length == 4:
            drawn = drawn[:beams]
        running = sorted((c[1:] for c in drawn), key=lambda c: -c[0])[:beams]
    agree(found, 0, running, 3)


def test_a_sampled_row_does_not_depend_on_its_batch():
    prompts, keys = [[1], [2, 3, 1], [3, 3]], jax.random.split(jax.random.key(3), 3)
    options = {"num_beams": 3, "max_new_tokens": 5, "num_return": 3, "eos_ids": [EOS]}
    together = beam_sample(MODEL, prompts, keys, **options)
    for row, prompt in enumerate(prompts):
        alone = beam_sample(MODEL, [prompt], keys[row : row + 1], **options)
        agree(together, row, hypotheses(alone, 0), 3)


def test_truncations_act_before_the_draw():
    found = beam_sample(
        MODEL, [PROMPT] * 16, 1, num_beams=3, max_new_tokens=3, num_return=3,
        sampler=jd.chain(jd.TopK(2), jd.Temperature(0.7)),
    )  # fmt: skip
    for row in range(16):
        for _, tokens in hypotheses(found, row):
            for i, token in enumerate(tokens):
                row_logprobs = logprobs_of(MODEL)(PROMPT + tokens[:i])
                assert token in np.argsort(-row_logprobs)[:2]


@pytest.fixture(scope="module")
def sample():
    found = stochastic_beam_search(
        MODEL, [PROMPT] * DRAWS, jax.random.key(11), num_beams=3, max_new_tokens=3,
        eos_ids=[EOS],
    )  # fmt: skip
    return jax.tree.map(np.asarray, found)


def names(sample):
    """Return the sampled texts as tuples, [rows][K]."""
    return [
        [tuple(t[:n].tolist()) for t, n in zip(tokens, lengths, strict=True)]
        for tokens, lengths in zip(sample.tokens, sample.lengths, strict=True)
    ]


def test_log_probs_are_those_of_the_whole_texts(sample):
    known = texts()
    for row, drawn in enumerate(names(sample)[:200]):
        expected = [known[text] for text in drawn]
        np.testing.assert_allclose(sample.logprobs[row], expected, atol=1e-4)


def test_texts_of_a_sample_are_distinct_and_in_the_order_of_the_draw(sample):
    assert all(len(set(drawn)) == 3 for drawn in names(sample))
    assert (np.diff(sample.perturbed, axis=1) <= 0).all()
    assert (sample.perturbed[:, -1] >= sample.threshold).all()


def test_the_first_two_texts_come_as_in_a_draw_without_replacement(sample):
    # False-alarm rate 1e-6, key fixed.
    known = {text: np.exp(total) for text, total in texts().items()}
    pairs = {
        (a, b): DRAWS * known[a] * known[b] / (1 - known[a])
        for a, b in itertools.permutations(known, 2)
    }
    seen = dict.fromkeys(pairs, 0)
    for drawn in names(sample):
        seen[drawn[0], drawn[1]] += 1
    common = [pair for pair in pairs if pairs[pair] >= 5]
    expected = [pairs[p] for p in common] + [DRAWS - sum(pairs[p] for p in common)]
    counted = [seen[p] for p in common] + [DRAWS - sum(seen[p] for p in common)]
    cells = zip(counted, expected, strict=True)
    statistic = sum((n - wanted) ** 2 / wanted for n, wanted in cells)
    assert chi_square_tail(statistic, len(expected) - 1) > 1e-6


def test_inclusion_frequencies_are_those_of_the_theory(sample):
    # For each text, the mean of the stated inclusion probability, given a threshold
    # from the others, must be met by how often it is in: |z| < 5 for every text.
    known = {text: np.exp(total) for text, total in texts().items()}
    exact = dict.fromkeys(known, 0.0)
    for drawn in itertools.permutations(known, 3):
        left, chance = 1.0, 1.0
        for text in drawn:
            chance, left = chance * known[text] / left, left - known[text]
        for text in drawn:
            exact[text] += chance
    counted = dict.fromkeys(known, 0)
    for drawn in names(sample):
        for text in drawn:
            counted[text] += 1
    for text, p in exact.items():
        deviation = np.sqrt(DRAWS * p * (1 - p))
        assert abs(counted[text] - DRAWS * p) < 5 * deviation + 1


def test_the_weighted_estimate_of_an_expectation_is_unbiased(sample):
    values = {text: sum(text) + 3.0 * len(text) for text in texts()}
    truth = sum(np.exp(total) * values[text] for text, total in texts().items())
    f = np.asarray([[values[text] for text in drawn] for drawn in names(sample)])
    estimates = (sample.weights * f).sum(axis=1)
    error = estimates.std() / np.sqrt(DRAWS)
    assert abs(estimates.mean() - truth) < 5 * error


def test_all_texts_are_returned_where_fewer_exist():
    found = stochastic_beam_search(
        MODEL, [PROMPT], 5, num_beams=6, max_new_tokens=1, eos_ids=[EOS], wide=True
    )
    assert (np.asarray(found.status[0]) == Status.INVALID).tolist() == 4 * [0] + 2 * [1]
    np.testing.assert_allclose(found.weights[0, :4].sum(), 1.0, atol=1e-5)
    assert np.isneginf(found.threshold).all()


def test_a_stochastic_row_does_not_depend_on_its_batch():
    prompts, keys = [[1], [2, 3, 1], [3, 3]], jax.random.split(jax.random.key(3), 3)
    options = {"num_beams": 3, "max_new_tokens": [5, 2, 4], "eos_ids": [EOS]}
    together = stochastic_beam_search(MODEL, prompts, keys, **options)
    for row, prompt in enumerate(prompts):
        options["max_new_tokens"] = [5, 2, 4][row]
        alone = stochastic_beam_search(
            MODEL, [prompt], keys[row : row + 1], new_tokens_max=5, **options
        )
        np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
        np.testing.assert_allclose(
            together.perturbed[row], alone.perturbed[0], atol=1e-5
        )
