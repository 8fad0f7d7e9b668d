"""Groups of beams that avoid each other's tokens, against plain loops."""

import numpy as np

from jaxdecode.decode.beam import beam_search
from tests.decode.beam.decay import agree, decay, hypotheses, logprobs_of
from tests.reference.beam import diverse_beam_search, power

V = 11
PROMPTS = [[3, 1, 4], [7], [1, 5, 9, 2, 6]]
MODEL = decay(V)


def search(**changed):
    options = {
        "num_beams": 6,
        "groups": 3,
        "diversity": [0.4, 1.5, 0.9],
        "max_new_tokens": 6,
        "num_return": 6,
    }
    return beam_search(MODEL, PROMPTS, **(options | changed))


def test_groups_are_those_of_the_plain_loop():
    found = search(eos_ids=[2], length_penalty=0.8)
    for row, prompt in enumerate(PROMPTS):
        expected = diverse_beam_search(
            logprobs_of(MODEL), prompt, beams=6, groups=3, budget=6, eos=[2],
            diversity=[0.4, 1.5, 0.9][row], score=power(0.8),
        )  # fmt: skip
        agree(found, row, expected, 6)


def test_token_log_probs_do_not_pay_for_diversity():
    found = search()
    rescore = logprobs_of(MODEL)
    for rank, (_, tokens) in enumerate(hypotheses(found, 0)):
        steps = [rescore(PROMPTS[0] + tokens[:i])[t] for i, t in enumerate(tokens)]
        np.testing.assert_allclose(
            found.token_logprobs[0, rank, : len(tokens)], steps, atol=2e-5
        )


def test_groups_that_do_not_care_are_equal():
    found = search(diversity=0.0)
    for row in range(len(PROMPTS)):
        texts = [tuple(tokens) for _, tokens in hypotheses(found, row)]
        assert {texts.count(text) for text in texts} == {3}


def test_a_high_price_makes_the_first_tokens_differ():
    found = search(diversity=100.0, num_beams=3, num_return=3)
    for row in range(len(PROMPTS)):
        assert len(set(np.asarray(found.tokens)[row, :3, 0].tolist())) == 3
