"""A bad value raises where a person typed it: who, which argument, rule and value."""

import numpy as np
import pytest

import jaxdecode as jd
from tests.bad_values import BAD


@pytest.mark.parametrize(("who", "given", "error", "message"), BAD)
def test_a_bad_value_raises_where_it_is_typed(who, given, error, message):
    *args, last = given
    args, named = (args, last) if isinstance(last, dict) else (given, {})
    with pytest.raises(error, match=f"^{who}: {message}"):
        getattr(jd, who)(*args, **named)


def test_every_link_has_a_bad_value():
    kinds = (jd.Edit, jd.Scale, jd.Truncation)
    links = {
        name
        for name in jd.__all__
        if isinstance(getattr(jd, name), type)
        and issubclass(getattr(jd, name), kinds)
        and getattr(jd, name) not in kinds
    }
    assert links == {who for who, *_ in BAD}


ROWS = np.zeros((2, 37), np.float32)
MARK = jd.Watermark(1.0)

# what does not fit the batch is found before anything compiles
MISFITS = [
    (lambda: jd.apply(jd.BanTokens([37]), ROWS), "BanTokens: `ids`.*37, got 37"),
    (lambda: jd.apply(jd.LogitBias({99: 1}), ROWS), "LogitBias: `bias`.*got 99"),
    (lambda: jd.apply(jd.LogitBias([0.0] * 5), ROWS), r"LogitBias: `bias`.*\(37\).*5"),
    (lambda: jd.apply(jd.MinNewTokens(1, 40), ROWS), "MinNewTokens: `eos_ids`.*40"),
    (lambda: jd.apply(jd.AllowTokens([50]), ROWS), "AllowTokens: `ids`.*got 50"),
    (lambda: jd.apply(jd.ForcedTokens({0: 40}), ROWS), "ForcedTokens: `ids`.*got 40"),
    (lambda: jd.apply(jd.BanSequences([[1, 40]]), ROWS), "BanSequences: .*got 40"),
    (lambda: jd.apply(jd.SequenceBias([((40, 1), 1)]), ROWS), "SequenceBias: .*got 40"),
    (lambda: jd.apply(jd.DRY(1.0, breakers=[41]), ROWS), "DRY: `breakers`.*got 41"),
    (lambda: jd.apply(jd.SuppressAtBegin([37]), ROWS), "SuppressAtBegin: .*got 37"),
    (
        lambda: jd.apply(jd.ExponentialDecayLength(0, 1.1, [37]), ROWS),
        "ExponentialDecayLength: `eos_ids`.*got 37",
    ),
    (lambda: jd.apply(jd.TopK([1, 2, 3]), ROWS), r"TopK: `k`.*per prompt \(2\), got 3"),
    (lambda: jd.apply(jd.XTC(0.1, 0.5), ROWS), "apply: `key` must be given"),
    (lambda: jd.apply(jd.TopK(1), ROWS, prompts=[[1]]), r"apply: `prompts`.*\(2\).*1"),
    (lambda: jd.apply(jd.TopK(1), ROWS, prompts=[[], [99]]), "apply: `prompts`.*99"),
    (lambda: jd.sample(jd.TopK(1), ROWS, -1), r"sample: a seed must be in \[0, .*-1"),
    (
        lambda: jd.chain(jd.AdaptiveP(0.5), jd.TopK(5)),
        "chain: AdaptiveP must be the last link.*TopK",
    ),
    (lambda: jd.detect_watermark([-1], MARK), "detect_watermark: `tokens`.*-1"),
    (
        lambda: jd.detect_watermark([1, 2], jd.Watermark(1, 1.0)),
        r"detect_watermark: `watermark.fraction` must be in \(0, 1\), got 1.0",
    ),
    (
        lambda: jd.detect_watermark([1, 2], jd.Watermark(1, [0.5, 0.2])),
        "detect_watermark: `watermark` must have one value",
    ),
]


@pytest.mark.parametrize(("call", "message"), MISFITS)
def test_what_does_not_fit_raises_before_anything_compiles(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("link", [jd.TopK, "top_k", None, 3])
def test_what_is_no_link_is_refused(link):
    with pytest.raises(TypeError, match="chain: every link must be a link"):
        jd.chain(link)


def test_a_class_in_place_of_a_link_is_told_to_be_called():
    with pytest.raises(TypeError, match=r"write TopK\(...\)"):
        jd.chain(jd.TopK)
