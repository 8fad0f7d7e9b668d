"""Links equal Hugging Face's processors, libllama's samplers and vLLM's penalties."""

import numpy as np
import pytest

import jaxdecode as jd
from tests.rows import golden, mask

HF, HF_ARRAYS = golden("hf_processors")
LLAMA, LLAMA_ARRAYS = golden("llamacpp_random")
PENALTIES, PENALTY_ARRAYS = golden("penalties")
UNSURE = 1e-5  # float32 may legally move a cut that is nearer than this


def eos_ids(value):
    return value if isinstance(value, list) else [value]


def hf_top_k(top_k, min_tokens_to_keep):
    return jd.TopK(top_k, ties="keep", min_keep=min_tokens_to_keep)


HF_LINKS = {
    "temperature": lambda temperature: jd.Temperature(temperature),
    "top_k": hf_top_k,
    "top_p": lambda top_p, min_tokens_to_keep: jd.TopP(
        top_p, min_keep=min_tokens_to_keep
    ),
    "min_p": lambda min_p, min_tokens_to_keep: jd.MinP(
        min_p, min_keep=min_tokens_to_keep
    ),
    "repetition_penalty": lambda penalty: jd.RepetitionPenalty(penalty),
    "repetition_penalty_ignore_prompt": lambda penalty, **_: jd.RepetitionPenalty(
        penalty, count_prompt=False
    ),
    "min_length": lambda min_length, eos: jd.MinNewTokens(min_length, eos_ids(eos)),
    "min_new_tokens": lambda min_new_tokens, eos, **_: jd.MinNewTokens(
        min_new_tokens, eos_ids(eos)
    ),
    "suppress": lambda ids: jd.BanTokens(ids),
    "typical": lambda mass, min_tokens_to_keep: jd.Typical(
        mass, min_keep=min_tokens_to_keep
    ),
    "epsilon": lambda epsilon, min_tokens_to_keep: jd.EpsilonCutoff(
        epsilon, min_keep=min_tokens_to_keep
    ),
    "eta": lambda epsilon, min_tokens_to_keep: jd.EtaCutoff(
        epsilon, min_keep=min_tokens_to_keep
    ),
    "top_h": lambda top_h: jd.TopH(top_h),
    "no_repeat_ngram": lambda ngram: jd.NoRepeatNGram(ngram),
    "encoder_repetition_penalty": lambda penalty, **_: jd.EncoderRepetition(penalty),
    "bad_words": lambda bad_words, eos: jd.BanSequences(
        [word for word in bad_words if word not in [[i] for i in eos_ids(eos)]]
    ),
    "sequence_bias": lambda sequence_bias: jd.SequenceBias(
        [(ids, float(bias)) for ids, bias in sequence_bias]
    ),
    "exponential_decay": lambda start, factor, eos, **_: jd.ExponentialDecayLength(
        start, factor, eos_ids(eos)
    ),
    "suppress_at_begin": lambda ids, **_: jd.SuppressAtBegin(ids),
    "forced_bos": lambda bos: jd.ForcedTokens({1: bos}),
    "forced_eos": lambda max_length, eos: jd.ForcedTokens(
        {max_length - 1: eos_ids(eos)}, count_prompt=True
    ),
    "chain": lambda **params: hf_chain(**params),
}


def hf_chain(repetition_penalty, no_repeat_ngram, temperature, top_k, top_p, min_p):
    return jd.chain(
        jd.RepetitionPenalty(repetition_penalty),
        jd.NoRepeatNGram(no_repeat_ngram),
        jd.Temperature(temperature),
        jd.TopK(top_k, ties="keep"),
        jd.TopP(top_p),
        jd.MinP(min_p or 0.0),
    )


LLAMA_LINKS = {
    "top_k": lambda k: jd.TopK(max(k, 0)),
    "top_p": lambda p, min_keep: jd.TopP(p, min_keep=max(min_keep, 1)),
    "min_p": lambda p, min_keep: jd.MinP(p, min_keep=max(min_keep, 1)),
    "temperature": lambda temp: jd.Temperature(max(temp, 0.0)),
    "temperature_dynamic": lambda temp, delta, exponent: jd.DynamicTemperature(
        max(temp - delta, 0.0), temp + delta, exponent
    ),
    "typical": lambda p, min_keep: jd.Typical(
        p, ties="exact", min_keep=max(min_keep, 1)
    ),
    "top_n_sigma": lambda n: jd.TopNSigma(max(n, 0.0)),
    "xtc": lambda p, t, min_keep, **_: jd.XTC(t, p, min_keep=max(min_keep, 1)),
}
# llama.cpp takes 0 * log 0 for NaN and counts banned tokens among the candidates
NEEDS_ALL_PROBABLE = ("typical", "temperature_dynamic", "xtc")


def cases_of(described, field, links):
    """Return the cases of some links; those of one vocabulary share their programs.

    The first one of a link is tried soon with all of its parameters.
    """
    chosen = [case for case in described["cases"] if case[field] in links]
    soon = {}
    for case in chosen:
        soon.setdefault(case[field], case.get("vocab"))
    return [
        pytest.param(
            case,
            id=case["id"],
            marks=[] if case.get("vocab") == soon[case[field]] else [pytest.mark.slow],
        )
        for case in chosen
    ]


def histories(case):
    """Where the golden input ids count as prompt, and where as generated text."""
    if case["input_ids"] is None:
        return {}
    tokens = HF_ARRAYS[case["input_ids"]].tolist()
    params = case["params"]
    if case["processor"] == "encoder_repetition_penalty":
        return {"prompts": HF_ARRAYS[params["encoder_ids"]].tolist()}
    split = params.get("prompt_ignore_length", params.get("prompt_len"))
    if params.get("begin_index", len(tokens[0])) != len(tokens[0]):
        split = 0  # not at the beginning
    if case["processor"] == "min_length":
        split = 0  # the prompt counts
    split = len(tokens[0]) if split is None else split
    return {
        "prompts": [row[:split] for row in tokens],
        "generated": [row[split:] for row in tokens],
    }


def nan_is_banned(rows):
    return np.where(np.isnan(rows), np.float32(-np.inf), rows)


def all_probable(scores):
    """Which rows have no token whose float32 probability is 0."""
    best = scores.max(axis=1, keepdims=True)
    return (np.exp(scores - best) > np.finfo(np.float32).tiny).all(axis=1)


def surviving(values):
    return np.sort(values[np.isfinite(values)])


def with_weightless(output, scores):
    """Put back the tokens whose float32 probability is 0."""
    best = scores.max(axis=1, keepdims=True)
    weighs = np.exp(scores - best) > np.finfo(np.float32).tiny
    return np.where(weighs, output, scores)


def assert_rows_equal(case, got, expected, *, rtol):
    """Compare rows; where ties stand at the cut, what survives may have other ids."""
    margins = np.asarray(case.get("margin") or [1.0] * len(got), np.float64)
    unstable = set(case.get("unstable_rows", ()))
    at_cut = case["params"].get("top_p", case["params"].get("p")) in (0.0, 1.0)
    for i in range(len(got)):
        if i in unstable or (margins[i] < UNSURE and not at_cut):
            continue
        if i in case["tie_rows"]:
            ours, theirs = surviving(got[i]), surviving(expected[i])
        else:
            ours, theirs = got[i], expected[i]
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol, err_msg=str(i))


@pytest.mark.parametrize("case", cases_of(HF, "processor", HF_LINKS))
def test_a_link_equals_hugging_face(case):
    link = HF_LINKS[case["processor"]](**case["params"])
    scores = HF_ARRAYS[case["scores"]]
    output = HF_ARRAYS[case["output"]]
    if case["kind"] == "filter":
        output = np.where(mask(output, case["vocab"]), -np.inf, scores)
    got = np.asarray(jd.apply(link, scores, **histories(case)))
    if case["processor"] in ("forced_bos", "forced_eos"):
        # theirs lifts a ban on a forced token, ours never does
        lifted = np.isinf(scores) & np.isfinite(output)
        output = np.where(lifted, -np.inf, output)
    if case["processor"] == "top_p" and case["params"]["top_p"] == 1.0:
        output = with_weightless(output, scores)  # theirs drops these; ours keeps all
    assert_rows_equal(case, got, output, rtol=1e-5)


@pytest.mark.parametrize("case", cases_of(LLAMA, "sampler", LLAMA_LINKS))
def test_a_link_equals_llama_cpp(case):
    link = LLAMA_LINKS[case["sampler"]](**case["params"])
    scores = LLAMA_ARRAYS[case["input"]]
    output = LLAMA_ARRAYS[case["output"]]
    if case["kind"] == "filter":
        output = np.where(mask(output, case["vocab"]), scores, -np.inf)
    got = np.asarray(jd.apply(link, scores, key=0))
    if case["sampler"] in NEEDS_ALL_PROBABLE:
        case = case | {"unstable_rows": np.flatnonzero(~all_probable(scores))}
    assert_rows_equal(case, got, nan_is_banned(output), rtol=1e-5)


def windowed(repeat, freq, present, last_n):
    return jd.chain(
        jd.RepetitionPenalty(repeat, window=last_n),
        jd.FrequencyPenalty(freq, count_prompt=True, window=last_n),
        jd.PresencePenalty(present, count_prompt=True, window=last_n),
    )


@pytest.mark.parametrize("case", cases_of(LLAMA, "sampler", {"penalties": None}))
def test_penalties_with_a_window_equal_llama_cpp(case):
    params = dict(case["params"])
    scores = LLAMA_ARRAYS[case["input"]]
    history = [params.pop("history")] * len(scores)
    got = np.asarray(jd.apply(windowed(**params), scores, prompts=history))
    expected = nan_is_banned(LLAMA_ARRAYS[case["output"]])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", cases_of(PENALTIES, "definition", {"vllm": None}))
def test_penalties_equal_vllm(case):
    sampler = jd.chain(
        jd.RepetitionPenalty(case["repetition"]),
        jd.FrequencyPenalty(case["frequency"]),
        jd.PresencePenalty(case["presence"]),
    )
    got = jd.apply(
        sampler,
        PENALTY_ARRAYS[case["scores"]],
        prompts=case["prompt"],
        generated=case["output"],
    )
    expected = PENALTY_ARRAYS[case["id"]]
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", cases_of(PENALTIES, "definition", {"llamacpp": None}))
def test_penalties_equal_llama_cpp_over_its_last_tokens(case):
    sampler = windowed(
        case["repeat"], case["frequency"], case["presence"], case["last_n"]
    )
    scores = PENALTY_ARRAYS[case["scores"]]
    got = jd.apply(sampler, scores, prompts=case["history"])
    expected = PENALTY_ARRAYS[case["id"]]
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-6, atol=1e-6)
