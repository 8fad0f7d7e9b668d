"""The table of links: what the laws are tried on, with each link's oracle."""

import jaxdecode as jd
from jaxdecode.testing import Case
from tests.reference import cutoffs, history, patterns, penalties, truncation
from tests.rows import V


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


def on_text(oracle, *parameters, **named):
    """An oracle of the row and all of its tokens."""
    return lambda row, prompt, generated: oracle(
        row, prompt + generated, *parameters, **named
    )


def forced(row, prompt, generated):
    places = {4: [1], 7: ALLOWED, 2: [5], 11: [7, 12, 30]}
    if len(generated) not in places:
        return row
    neutral = [0.0 if z != penalties.BANNED else z for z in row]
    return history.only(neutral, places[len(generated)])


PAIRS = [((4,), 1.5), ((1, 2), -2.0), ((0, 1, 2), 0.5), ((3, 3, 3, 3, 2), 9.0)]
WORDS = [[7], [1, 2], [0, 3, 1], [2, 2, 2, 2, 2, 2, 4]]
ALLOWED = [2, 7, 12, 18, 30, 35]  # one of them is allowed in every row

CASES |= {
    "EpsilonCutoff": Case(
        jd.EpsilonCutoff(0.02),
        neutral=jd.EpsilonCutoff(0.0),
        varied=jd.EpsilonCutoff(0.3, min_keep=4),
        oracle=on_row(cutoffs.epsilon, 0.02),
        keeps_argmax=True,
    ),
    "EpsilonCutoff min_keep": Case(
        jd.EpsilonCutoff(0.9, min_keep=3),
        oracle=on_row(cutoffs.epsilon, 0.9, min_keep=3),
        keeps_argmax=True,
    ),
    "EtaCutoff": Case(
        jd.EtaCutoff(0.05),
        neutral=jd.EtaCutoff(0.0),
        varied=jd.EtaCutoff(0.4, min_keep=2),
        oracle=on_row(cutoffs.eta, 0.05),
        keeps_argmax=True,
    ),
    "TopA": Case(
        jd.TopA(0.3),
        neutral=jd.TopA(0.0),
        varied=jd.TopA(0.9, min_keep=2),
        oracle=on_row(cutoffs.top_a, 0.3),
        keeps_argmax=True,
    ),
    "PLess": Case(
        jd.PLess(),
        varied=jd.PLess(min_keep=5),
        oracle=on_row(cutoffs.p_less),
        keeps_argmax=True,
    ),
    "Typical": Case(
        jd.Typical(0.6),
        neutral=jd.Typical(1.0),
        varied=jd.Typical(0.2, min_keep=3),
        oracle=on_row(cutoffs.typical, 0.6),
    ),
    "Typical exact": Case(
        jd.Typical(0.3, ties="exact", min_keep=2),
        neutral=jd.Typical(1.0, ties="exact"),
        varied=jd.Typical(0.9, ties="exact"),
        oracle=on_row(cutoffs.typical, 0.3, ties="exact", min_keep=2),
    ),
    "TopH": Case(
        jd.TopH(0.45),
        varied=jd.TopH(1.0),
        oracle=on_row(cutoffs.top_h, 0.45),
        keeps_argmax=True,
    ),
    "TopNSigma": Case(
        jd.TopNSigma(1.1),
        neutral=jd.TopNSigma(0.0),
        varied=jd.TopNSigma(0.3, min_keep=3),
        oracle=on_row(cutoffs.top_n_sigma, 1.1),
        keeps_argmax=True,
    ),
    "TailFree": Case(
        jd.TailFree(0.93),
        neutral=jd.TailFree(1.0),
        varied=jd.TailFree(0.2, min_keep=3),
        oracle=on_row(cutoffs.tail_free, 0.93),
        keeps_argmax=True,
    ),
    "XTC": Case(
        jd.XTC(0.05, 1.0),
        neutral=jd.XTC(0.05, 0.0),
        varied=jd.XTC(0.02, 0.5, min_keep=4),
        oracle=on_row(cutoffs.xtc, 0.05),
    ),
    "XTC now and then": Case(jd.XTC(0.03, 0.5), varied=jd.XTC(0.9, 1.0)),
    "DynamicTemperature": Case(
        jd.DynamicTemperature(0.5, 1.6, 1.3),
        neutral=jd.DynamicTemperature(1.0, 1.0, 2.0),
        varied=jd.DynamicTemperature(0.0, 0.9),
        oracle=on_row(cutoffs.dynamic_temperature, 0.5, 1.6, 1.3),
        keeps_argmax=True,
    ),
    "Quadratic": Case(
        jd.Quadratic(0.3, 1.7),
        neutral=jd.Quadratic(0.0),
        varied=jd.Quadratic(2.0, 3.0),
        oracle=on_row(cutoffs.quadratic, 0.3, 1.7),
        keeps_argmax=True,
    ),
    "Mirostat 2": Case(
        jd.Mirostat(1.5),
        varied=jd.Mirostat(0.2, 0.9, min_keep=3),
        oracle=on_row(cutoffs.mirostat, 3.0, V, 2),
        keeps_argmax=True,
        feedback=True,
    ),
    "Mirostat 1": Case(
        jd.Mirostat(1.5, version=1),
        varied=jd.Mirostat(0.2, 0.9, version=1, min_keep=3),
        oracle=on_row(cutoffs.mirostat, 3.0, V, 1),
        keeps_argmax=True,
        feedback=True,
    ),
    "AdaptiveP": Case(
        jd.AdaptiveP(0.4, 0.9),
        neutral=jd.AdaptiveP(-1.0),
        varied=jd.AdaptiveP(0.1, 0.0),
        oracle=on_row(cutoffs.adaptive_p, 0.4, 4.0, 10.0),
        feedback=True,
    ),
    "EncoderRepetition": Case(
        jd.EncoderRepetition(1.4),
        neutral=jd.EncoderRepetition(1.0),
        varied=jd.EncoderRepetition(0.7),
        oracle=lambda row, prompt, generated: history.encoder_repetition(
            row, prompt, 1.4
        ),
    ),
    "DRY": Case(
        jd.DRY(0.8, 1.75, 1),
        neutral=jd.DRY(0.0),
        varied=jd.DRY(2.0, 1.1, 0, window=7),
        oracle=on_text(history.dry, 0.8, 1.75, 1),
    ),
    "DRY window": Case(
        jd.DRY(0.8, 1.2, 0, window=8, breakers=[3]),
        neutral=jd.DRY(0.0, breakers=[3]),
        varied=jd.DRY(0.8, 1.2, 1, window=0, breakers=[3]),
        oracle=on_text(history.dry, 0.8, 1.2, 0, window=8, breakers=[3]),
        names_tokens=True,
    ),
    "NoRepeatNGram": Case(
        jd.NoRepeatNGram(2),
        neutral=jd.NoRepeatNGram(0),
        varied=jd.NoRepeatNGram(3),
        oracle=on_text(history.no_repeat_ngram, 2),
        bans=True,
    ),
    "SequenceBias": Case(
        jd.SequenceBias(PAIRS),
        neutral=jd.SequenceBias([]),
        oracle=on_text(history.sequence_bias, PAIRS),
        names_tokens=True,
    ),
    "BanSequences": Case(
        jd.BanSequences(WORDS),
        neutral=jd.BanSequences([]),
        oracle=on_text(
            history.sequence_bias, [(word, penalties.BANNED) for word in WORDS]
        ),
        names_tokens=True,
    ),
    "AllowTokens": Case(
        jd.AllowTokens(ALLOWED),
        neutral=jd.AllowTokens(range(V)),
        oracle=on_row(history.only, ALLOWED),
        names_tokens=True,
    ),
    "ForcedTokens": Case(
        jd.ForcedTokens(
            {4: 1, 11: [7, 12, 30], 7: [*ALLOWED], 2: 5}, count_prompt=False
        ),
        neutral=jd.ForcedTokens({}),
        oracle=forced,
        names_tokens=True,
        bans=True,
    ),
    "SuppressAtBegin": Case(
        jd.SuppressAtBegin([1, 2]),
        neutral=jd.SuppressAtBegin([]),
        oracle=lambda row, prompt, generated: row,
        names_tokens=True,
    ),
    "ExponentialDecayLength": Case(
        jd.ExponentialDecayLength(4, 1.3, [2, 5]),
        neutral=jd.ExponentialDecayLength(0, 1.0, [2, 5]),
        varied=jd.ExponentialDecayLength(0, 0.5, [2, 5]),
        oracle=lambda row, prompt, generated: history.decayed(
            row, generated, 4, 1.3, [2, 5]
        ),
        names_tokens=True,
    ),
    "Watermark": Case(
        jd.Watermark(2.0, 0.4, 17),
        neutral=jd.Watermark(0.0, 0.4, 17),
        varied=jd.Watermark(0.5, 0.1, 4),
        oracle=on_text(history.watermarked, 2.0, 0.4, 17),
        names_tokens=True,
    ),
}

# Five tokens occur in the histories; a pattern knows what they spell.
LETTERS = [
    b"a",
    b"b",
    b"ab",
    b"ba",
    b"aab",
    *(bytes([c]) for c in range(70, 100)),
    None,
]
LETTERS += [None]


def matching(row, prompt, generated):
    oracle = patterns.Oracle("(a|b)*(aab)?b[F-Z]{0,2}", LETTERS, V - 1)
    fits = oracle.fits(oracle.after(generated), 9)
    return [z if i in fits else penalties.BANNED for i, z in enumerate(row)]


MATCHING = {
    "Matches": Case(
        jd.Regex("(a|b)*(aab)?b[F-Z]{0,2}", LETTERS, eos_ids=V - 1),
        varied=jd.Regex("[ab]{2,5}|aab*", LETTERS, eos_ids=V - 1),
        oracle=matching,
        names_tokens=True,
        bans=True,
    ),
}
