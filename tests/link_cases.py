"""The table of links: what the laws are tried on, with each link's oracle."""

from reference import penalties, truncation

import jaxdecode as jd
from jaxdecode.testing import Case


def on_row(oracle, *parameters, **named):
    """An oracle of the row alone."""
    return lambda row, prompt, generated: oracle(row, *parameters, **named)


def on_counts(oracle, penalty, count_prompt=False, window=None):
    """An oracle of the row and the tokens that count."""

    def expected(row, prompt, generated):
        tokens = penalties.counted(prompt, generated, count_prompt, window)
        return oracle(row, tokens, penalty)

    return expected


def biased(row, prompt, generated):
    return [z + {3: 1.5, 7: -2.0}.get(i, 0.0) for i, z in enumerate(row)]


def too_early(row, prompt, generated):
    return penalties.ban(row, [2, 5]) if len(generated) < 5 else row


CASES = {
    "Temperature": Case(
        jd.Temperature(0.7),
        neutral=jd.Temperature(1.0),
        varied=jd.Temperature(1.9),
        oracle=on_row(truncation.temperature, 0.7),
        keeps_argmax=True,
    ),
    "Temperature 0": Case(
        jd.Temperature(0.0),
        varied=jd.Temperature(1.1),
        oracle=on_row(truncation.temperature, 0.0),
        keeps_argmax=True,
    ),
    "TopK": Case(
        jd.TopK(5),
        neutral=jd.TopK(0),
        varied=jd.TopK(11),
        oracle=on_row(truncation.top_k, 5),
        keeps_argmax=True,
    ),
    "TopK ties": Case(
        jd.TopK(4, ties="keep", min_keep=6),
        neutral=jd.TopK(0, ties="keep"),
        varied=jd.TopK(2, ties="keep", min_keep=2),
        oracle=on_row(truncation.top_k, 4, ties="keep", min_keep=6),
        keeps_argmax=True,
    ),
    "TopP": Case(
        jd.TopP(0.83),
        neutral=jd.TopP(1.0),
        varied=jd.TopP(0.4, min_keep=3),
        oracle=on_row(truncation.top_p, 0.83),
        keeps_argmax=True,
    ),
    "MinP": Case(
        jd.MinP(0.11),
        neutral=jd.MinP(0.0),
        varied=jd.MinP(0.6, min_keep=3),
        oracle=on_row(truncation.min_p, 0.11),
        keeps_argmax=True,
    ),
    "RepetitionPenalty": Case(
        jd.RepetitionPenalty(1.3),
        neutral=jd.RepetitionPenalty(1.0),
        varied=jd.RepetitionPenalty(0.8, count_prompt=False, window=4),
        oracle=on_counts(penalties.repetition, 1.3, count_prompt=True),
    ),
    "FrequencyPenalty": Case(
        jd.FrequencyPenalty(0.4),
        neutral=jd.FrequencyPenalty(0.0),
        varied=jd.FrequencyPenalty(-0.3, count_prompt=True, window=3),
        oracle=on_counts(penalties.frequency, 0.4),
    ),
    "FrequencyPenalty window": Case(
        jd.FrequencyPenalty(0.4, count_prompt=True, window=6),
        varied=jd.FrequencyPenalty(0.4, count_prompt=True, window=0),
        oracle=on_counts(penalties.frequency, 0.4, count_prompt=True, window=6),
    ),
    "PresencePenalty": Case(
        jd.PresencePenalty(1.4, window=4),
        neutral=jd.PresencePenalty(0.0, window=4),
        varied=jd.PresencePenalty(0.1, count_prompt=True),
        oracle=on_counts(penalties.presence, 1.4, window=4),
    ),
    "LogitBias": Case(
        jd.LogitBias({3: 1.5, 7: -2.0}),
        neutral=jd.LogitBias({}),
        varied=jd.LogitBias({1: 0.5}),
        oracle=biased,
        names_tokens=True,
    ),
    "LogitBias vector": Case(
        jd.LogitBias([-0.5] * 37),
        neutral=jd.LogitBias([0.0] * 37),
        oracle=lambda row, prompt, generated: [z - 0.5 for z in row],
        names_tokens=True,
    ),
    "BanTokens": Case(
        jd.BanTokens([1, 30]),
        neutral=jd.BanTokens([]),
        varied=jd.BanTokens([5, 6, 7]),
        oracle=on_row(penalties.ban, [1, 30]),
        names_tokens=True,
    ),
    "MinNewTokens": Case(
        jd.MinNewTokens(5, [2, 5]),
        neutral=jd.MinNewTokens(0, [2, 5]),
        varied=jd.MinNewTokens(3, [2, 5]),
        oracle=too_early,
        names_tokens=True,
    ),
}
