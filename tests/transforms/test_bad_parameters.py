"""A bad value raises where a person typed it: who, what, rule, value."""

import math

import numpy as np
import pytest

import jaxdecode as jd

NAN = math.nan

# how it is built, the error, and what its message holds
BAD = [
    (
        lambda: jd.Temperature(-0.1),
        ValueError,
        "Temperature: `t` must be >= 0, got -0.1",
    ),
    (lambda: jd.Temperature(NAN), ValueError, "Temperature: `t` must be >= 0, got nan"),
    (lambda: jd.Temperature(math.inf), ValueError, "Temperature: `t`.*got inf"),
    (lambda: jd.Temperature(1e39), ValueError, "Temperature: `t`.*got 1e\\+39"),
    (lambda: jd.Temperature("hot"), TypeError, "Temperature: `t`.*number.*'hot'"),
    (lambda: jd.Temperature(True), TypeError, "Temperature: `t`.*True"),
    (lambda: jd.Temperature(None), TypeError, "Temperature: `t`.*None"),
    (lambda: jd.Temperature([0.5, -1]), ValueError, "Temperature: `t`.*-1.0 for row 1"),
    (lambda: jd.Temperature([[0.5]]), ValueError, "Temperature: `t`.*\\(1, 1\\)"),
    (lambda: jd.Temperature([]), TypeError, "Temperature: `t`.*\\[\\]"),
    (lambda: jd.TopK(-1), ValueError, "TopK: `k` must be >= 0, got -1"),
    (lambda: jd.TopK(2.5), TypeError, "TopK: `k`.*integer.*2.5"),
    (lambda: jd.TopK(True), TypeError, "TopK: `k`.*True"),
    (lambda: jd.TopK(2**31), ValueError, "TopK: `k`.*2147483648"),
    (
        lambda: jd.TopK(1, ties="both"),
        ValueError,
        "TopK: `ties`.*'exact', 'keep'.*'both'",
    ),
    (
        lambda: jd.TopK(1, min_keep=0),
        ValueError,
        "TopK: `min_keep` must be >= 1, got 0",
    ),
    (lambda: jd.TopP(1.5), ValueError, "TopP: `p` must be in \\[0, 1\\], got 1.5"),
    (lambda: jd.TopP(-0.1), ValueError, "TopP: `p` must be in \\[0, 1\\], got -0.1"),
    (lambda: jd.TopP(NAN), ValueError, "TopP: `p`.*got nan"),
    (lambda: jd.TopP(0.5, min_keep=0), ValueError, "TopP: `min_keep`.*got 0"),
    (lambda: jd.MinP(1.01), ValueError, "MinP: `p` must be in \\[0, 1\\], got 1.01"),
    (lambda: jd.MinP(0.5, min_keep=1.0), TypeError, "MinP: `min_keep`.*1.0"),
    (
        lambda: jd.RepetitionPenalty(0),
        ValueError,
        "RepetitionPenalty: `penalty` must be > 0",
    ),
    (
        lambda: jd.RepetitionPenalty(NAN),
        ValueError,
        "RepetitionPenalty: `penalty`.*nan",
    ),
    (
        lambda: jd.RepetitionPenalty(window=-1),
        ValueError,
        "RepetitionPenalty: `window`.*-1",
    ),
    (lambda: jd.FrequencyPenalty(NAN), ValueError, "FrequencyPenalty: `penalty`.*nan"),
    (
        lambda: jd.FrequencyPenalty(window=2.0),
        TypeError,
        "FrequencyPenalty: `window`.*2.0",
    ),
    (
        lambda: jd.FrequencyPenalty(count_prompt=1),
        TypeError,
        "`count_prompt`.*True or False",
    ),
    (
        lambda: jd.PresencePenalty(math.inf),
        ValueError,
        "PresencePenalty: `penalty`.*inf",
    ),
    (lambda: jd.LogitBias({"a": 1.0}), TypeError, "LogitBias: `bias`.*'a'"),
    (lambda: jd.LogitBias({-1: 1.0}), ValueError, "LogitBias: `bias`.*-1"),
    (lambda: jd.LogitBias({1: NAN}), ValueError, "LogitBias: `bias`.*nan"),
    (lambda: jd.LogitBias({1: math.inf}), ValueError, "LogitBias: `bias`.*inf"),
    (lambda: jd.LogitBias({True: 1.0}), TypeError, "LogitBias: `bias`.*True"),
    (lambda: jd.LogitBias(3.0), TypeError, "LogitBias: `bias`.*3.0"),
    (lambda: jd.BanTokens([1.5]), TypeError, "BanTokens: `ids`.*1.5"),
    (lambda: jd.BanTokens([-2]), ValueError, "BanTokens: `ids`.*-2"),
    (lambda: jd.BanTokens("12"), TypeError, "BanTokens: `ids`.*'12'"),
    (lambda: jd.BanTokens([False]), TypeError, "BanTokens: `ids`.*False"),
    (
        lambda: jd.MinNewTokens(-1, [2]),
        ValueError,
        "MinNewTokens: `n` must be >= 0, got -1",
    ),
    (lambda: jd.MinNewTokens(1, [-2]), ValueError, "MinNewTokens: `eos_ids`.*-2"),
    (lambda: jd.chain(jd.TopK), TypeError, "chain: every link.*write TopK\\(...\\)"),
    (lambda: jd.chain("top_k"), TypeError, "chain: every link.*'top_k'"),
    (
        lambda: jd.joint(top_p=2.0),
        ValueError,
        "TopP: `p` must be in \\[0, 1\\], got 2.0",
    ),
]


@pytest.mark.parametrize(("build", "error", "message"), BAD, ids=[b[2] for b in BAD])
def test_a_bad_value_raises_where_it_is_typed(build, error, message):
    with pytest.raises(error, match=message):
        build()


ROWS = np.zeros((2, 37), np.float32)

# what does not fit the rows is found before anything compiles
MISFITS = [
    (lambda: jd.apply(jd.BanTokens([37]), ROWS), "BanTokens: `ids`.*37, got 37"),
    (lambda: jd.apply(jd.LogitBias({99: 1.0}), ROWS), "LogitBias: `bias`.*37, got 99"),
    (
        lambda: jd.apply(jd.LogitBias([0.0] * 5), ROWS),
        "LogitBias: `bias`.*37\\), got 5",
    ),
    (
        lambda: jd.apply(jd.MinNewTokens(1, [40]), ROWS),
        "MinNewTokens: `eos_ids`.*got 40",
    ),
    (
        lambda: jd.apply(jd.TopK([1, 2, 3]), ROWS),
        "TopK: `k`.*one per prompt \\(2\\), got 3",
    ),
    (
        lambda: jd.apply(jd.TopK(1), ROWS, prompts=[[1]]),
        "apply: `prompts`.*\\(2\\), got 1",
    ),
    (
        lambda: jd.apply(jd.TopK(1), ROWS, prompts=[[1], [99]]),
        "apply: `prompts`.*got 99",
    ),
    (
        lambda: jd.sample(jd.TopK(1), ROWS, -1),
        "sample: a seed must be in \\[0, .*got -1",
    ),
]


@pytest.mark.parametrize(("call", "message"), MISFITS, ids=[m[1] for m in MISFITS])
def test_what_does_not_fit_the_batch_raises_before_anything_compiles(call, message):
    with pytest.raises(ValueError, match=message):
        call()
