"""The search equals plain loops and, where it is wide enough, enumeration."""

import itertools

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.status import Status
from jaxdecode.decode.beam import GNMT, LengthPenalty, beam_search
from tests.decode.beam.decay import agree, decay, hypotheses, logprobs_of
from tests.reference.beam import beam_search as plain_search
from tests.reference.beam import every_text, power

V = 11
PROMPTS = [[3, 1, 4], [7], [1, 5, 9, 2, 6]]
MODEL = decay(V)


@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize("eos", [None, [2], [0, 5, 8]])
def test_hypotheses_are_those_of_the_plain_loop(early, eos):
    alphas = [0.0, 1.0, -0.7]
    found = beam_search(
        MODEL,
        PROMPTS,
        num_beams=3,
        max_new_tokens=[7, 5, 9],
        length_penalty=alphas,
        early_stopping=early,
        num_return=3,
        eos_ids=eos,
    )
    for row, prompt in enumerate(PROMPTS):
        expected = plain_search(
            logprobs_of(MODEL),
            prompt,
            beams=3,
            budget=[7, 5, 9][row],
            eos=eos or (),
            score=power(alphas[row]),
            early=early,
        )
        agree(found, row, expected, 3)


SCORINGS = {
    "sum": ({"length_penalty": 0.0}, lambda s, n: s),
    "mean": ({}, lambda s, n: s / n),
    "favours length": ({"length_penalty": 1.7}, lambda s, n: s / n**1.7),
    "negative": ({"length_penalty": -1.0}, lambda s, n: s * n),
    "gnmt": ({"scoring": GNMT(0.6)}, lambda s, n: s / ((5 + n) / 6) ** 0.6),
    "function": ({"scoring": lambda s, n: s + 0.4 * n}, lambda s, n: s + 0.4 * n),
    "with the prompt": (
        {"scoring": LengthPenalty(1.0, count_prompt=True)},
        lambda s, n: s / (n + 2),
    ),
}


@pytest.mark.parametrize("kind", SCORINGS)
def test_a_wide_beam_finds_the_best_of_all_texts(kind):
    options, score = SCORINGS[kind]
    model, prompt = decay(4, seed=3, memory=0.0), [1, 2]
    if callable(options.get("scoring")) and kind == "function":
        options = {"scoring": _bonus}
    found = beam_search(
        model,
        [prompt],
        num_beams=64,  # as many as there are texts one token before the end
        max_new_tokens=4,
        early_stopping="never",
        eos_ids=[0],
        num_return=5,
        wide=True,
        **options,
    )
    texts = every_text(logprobs_of(model), prompt, budget=4, eos=[0])
    best = sorted(((score(s, len(t)), t) for s, t in texts), key=lambda c: -c[0])
    agree(found, 0, best, 5)


def _bonus(total, length):
    return total + 0.4 * length


def test_the_length_of_vllm_counts_the_prompt_and_not_the_eos():
    scoring = LengthPenalty(1.3, count_prompt=True, count_eos=False)
    found = beam_search(
        MODEL, PROMPTS, num_beams=3, max_new_tokens=6, num_return=3, eos_ids=[2],
        scoring=scoring,
    )  # fmt: skip
    ended = np.asarray(found.status) == Status.EOS
    assert ended.any()
    assert not ended.all()
    totals = np.asarray(found.token_logprobs).sum(axis=2)
    n = np.asarray([[len(p)] for p in PROMPTS]) + np.asarray(found.lengths) - ended
    np.testing.assert_allclose(found.scores, totals / n**1.3, rtol=1e-5)


def test_a_coverage_term_sees_the_tokens_of_each_hypothesis():
    found = beam_search(
        MODEL, PROMPTS, num_beams=3, max_new_tokens=5, num_return=3,
        scoring=GNMT(0.0, coverage=_count_of_fours),
    )  # fmt: skip
    for row, prompt in enumerate(PROMPTS):
        for rank, (score, tokens) in enumerate(hypotheses(found, row)):
            total = float(found.token_logprobs[row, rank].sum())
            assert score == pytest.approx(total - (prompt + tokens).count(4), abs=1e-5)


def _count_of_fours(context):
    known = np.arange(context.tokens.shape[0]) < context.length
    return -((context.tokens == 4) & known).sum().astype("float32")


def test_one_beam_is_greedy():
    found = beam_search(MODEL, PROMPTS, num_beams=1, max_new_tokens=9, eos_ids=[2])
    greedy = jd.generate(
        MODEL, PROMPTS, 0, sampler=jd.Temperature(0.0), max_new_tokens=9, eos_ids=[2]
    )
    np.testing.assert_array_equal(found.tokens[:, 0], greedy.tokens)
    np.testing.assert_array_equal(found.status[:, 0], greedy.status)
    np.testing.assert_allclose(
        found.token_logprobs[:, 0], greedy.model_logprobs, atol=1e-5
    )


def test_a_prompt_alone_gives_what_it_gives_in_a_batch():
    options = {"num_beams": 3, "max_new_tokens": 7, "num_return": 3, "eos_ids": [2]}
    together = beam_search(MODEL, PROMPTS, **options)
    for row, prompt in enumerate(PROMPTS):
        alone = beam_search(MODEL, [prompt], **options)
        agree(together, row, hypotheses(alone, 0), 3)


def test_scores_are_those_of_rescoring_the_tokens():
    found = beam_search(
        MODEL, PROMPTS, num_beams=3, max_new_tokens=6, num_return=3, eos_ids=[2]
    )
    rescore = logprobs_of(MODEL)
    for row, prompt in enumerate(PROMPTS):
        for rank, (score, tokens) in enumerate(hypotheses(found, row)):
            steps = [
                rescore(prompt + tokens[:i])[token] for i, token in enumerate(tokens)
            ]
            got = np.asarray(found.token_logprobs[row, rank])
            np.testing.assert_allclose(got[: len(tokens)], steps, atol=2e-5)
            assert not got[len(tokens) :].any()
            assert score == pytest.approx(sum(steps) / len(tokens), abs=2e-5)


def test_hypotheses_are_distinct_and_sorted():
    found = beam_search(
        MODEL, PROMPTS, num_beams=8, max_new_tokens=6, num_return=8, eos_ids=[2, 3]
    )
    for row in range(len(PROMPTS)):
        tokens = [tuple(tokens) for _, tokens in hypotheses(found, row)]
        assert len(set(tokens)) == 8
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_parents_name_the_beam_that_each_token_was_appended_to():
    found = beam_search(
        MODEL, PROMPTS, num_beams=3, max_new_tokens=6, num_return=3, return_parents=True
    )
    parents, tokens = np.asarray(found.parents), np.asarray(found.tokens)
    assert (parents[..., 0] == 0).all()
    for row in range(len(PROMPTS)):
        for step in range(1, 6):
            beams = {}
            for beam, prefix in zip(
                parents[row, :, step], tokens[row, :, :step].tolist(), strict=True
            ):
                assert beams.setdefault(beam, prefix) == prefix


def _penalty(row, tokens):
    row = row.copy()
    seen = sorted(set(tokens))
    row[seen] = row[seen] * 1.3
    row[5] = -np.inf
    return row


def test_edits_act_on_log_probs_and_follow_their_beam():
    edits = jd.chain(jd.RepetitionPenalty(1.3), jd.BanTokens([5]))
    found = beam_search(
        MODEL, PROMPTS, num_beams=3, max_new_tokens=7, num_return=3, eos_ids=[2],
        edits=edits,
    )  # fmt: skip
    for row, prompt in enumerate(PROMPTS):
        expected = plain_search(
            logprobs_of(MODEL, _penalty), prompt, beams=3, budget=7, eos=[2]
        )
        agree(found, row, expected, 3)


def test_renormalised_log_probs_sum_to_one_after_the_edits():
    def banned(row, tokens):
        row = row.copy()
        row[5] = -np.inf
        return row - np.log(np.exp(row).sum())

    found = beam_search(
        MODEL, PROMPTS, num_beams=3, max_new_tokens=4, num_return=3, renormalize=True,
        edits=jd.BanTokens([5]),
    )  # fmt: skip
    expected = plain_search(logprobs_of(MODEL, banned), PROMPTS[0], beams=3, budget=4)
    agree(found, 0, expected, 3)


def test_fewer_texts_than_asked_for_leave_invalid_places():
    allow_two = jd.BanTokens(range(2, V))
    found = beam_search(
        MODEL, [[1]], num_beams=5, max_new_tokens=1, num_return=5, edits=allow_two
    )
    assert found.status[0].tolist() == [2, 2, 4, 4, 4]
    assert found.lengths[0].tolist() == [1, 1, 0, 0, 0]
    assert np.isneginf(found.scores[0, 2:]).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_row_with_broken_logits_is_invalid_and_its_neighbour_is_not(poison):
    table = np.array(MODEL.table)
    table[7] = poison
    broken = type(MODEL)(table, vocab_size=V, memory=0.0)
    sound = type(MODEL)(np.array(MODEL.table), vocab_size=V, memory=0.0)
    ban = jd.BanTokens([7])
    options = {"num_beams": 2, "max_new_tokens": 4, "num_return": 2, "edits": ban}
    found = beam_search(broken, [[7], [1]], **options)
    assert (found.status[0] == Status.INVALID).all()
    assert not found.tokens[0].any()
    agree(found, 1, hypotheses(beam_search(sound, [[7], [1]], **options), 1), 2)


def test_it_runs_inside_a_jit_with_prompts_as_arrays():
    tokens = np.zeros((len(PROMPTS), 5), np.int32)
    for row, prompt in zip(tokens, PROMPTS, strict=True):
        row[: len(prompt)] = prompt
    lengths = np.asarray([len(prompt) for prompt in PROMPTS], np.int32)

    @jax.jit
    def search(tokens, lengths):
        return beam_search(MODEL, (tokens, lengths), num_beams=3, max_new_tokens=5)

    outside = beam_search(MODEL, PROMPTS, num_beams=3, max_new_tokens=5)
    np.testing.assert_array_equal(search(tokens, lengths).tokens, outside.tokens)


def test_new_values_do_not_compile_again():
    def search(alpha, early, eos, diversity):
        return beam_search(
            MODEL, PROMPTS, num_beams=4, max_new_tokens=5, length_penalty=alpha,
            early_stopping=early, eos_ids=[eos], groups=2, diversity=diversity,
        )  # fmt: skip

    search(1.0, False, 2, 0.1)
    with jd.testing.count_compiles() as compiles:
        for alpha, early in itertools.product([0.0, -2.0], [True, "never"]):
            search([alpha, 0.3, 1.0], early, 5, 0.7)
    assert compiles.count == 0, compiles.names
