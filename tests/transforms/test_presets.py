"""A preset is the chain of the system it is named after: order, ties, boundary rules."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.testing import count_compiles
from tests.reference import cutoffs, history, penalties, truncation
from tests.rows import golden
from tests.transforms.processed import applied, histories, scores

HF, HF_ARRAYS = golden("hf_processors")
CHAINS = [case for case in HF["cases"] if case["processor"] == "chain"]


def assert_same(got, wanted):
    wanted = np.asarray(wanted, np.float32)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(wanted))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def names(sampler):
    return [type(link).__name__ for link in sampler.links]


@pytest.mark.parametrize("case", CHAINS, ids=lambda case: case["id"])
def test_transformers_is_hugging_faces_own_chain(case):
    params = dict(case["params"])
    params["no_repeat_ngram_size"] = params.pop("no_repeat_ngram")
    rows, wanted = HF_ARRAYS[case["scores"]], HF_ARRAYS[case["output"]]
    ids = HF_ARRAYS[case["input_ids"]].tolist()
    got = applied(jd.presets.transformers(**params), rows, ids, None)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


TRANSFORMERS = {
    "sequence_bias": [([3], 1.5), ([4, 5], -2.0)],
    "encoder_repetition_penalty": 1.2,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[7], [8, 9], [1]],
    "min_new_tokens": 20,
    "forced_bos_token_id": 3,
    "forced_eos_token_id": 1,
    "max_length": 40,
    "exponential_decay_length_penalty": (2, 1.1),
    "suppress_tokens": [11],
    "begin_suppress_tokens": [12],
    "eos_token_id": [1],
    "temperature": 1.4,
    "top_h": 0.9,
    "top_k": 9,
    "top_p": 0.9,
    "min_p": 0.05,
    "typical_p": 0.9,
    "epsilon_cutoff": 0.01,
    "eta_cutoff": 0.02,
}


def test_transformers_has_hugging_faces_order():
    assert names(jd.presets.transformers(**TRANSFORMERS)) == [
        "SequenceBias",
        "EncoderRepetition",
        "RepetitionPenalty",
        "NoRepeatNGram",
        "BanSequences",
        "MinNewTokens",
        "ForcedTokens",
        "ForcedTokens",
        "ExponentialDecayLength",
        "BanTokens",
        "SuppressAtBegin",
        "Temperature",
        "TopH",
        "TopK",
        "TopP",
        "MinP",
        "Typical",
        "EpsilonCutoff",
        "EtaCutoff",
    ]


def plain_transformers(row, prompt, generated):
    tokens = prompt + generated
    row = history.sequence_bias(row, tokens, TRANSFORMERS["sequence_bias"])
    row = history.encoder_repetition(row, prompt, 1.2)
    row = penalties.repetition(row, tokens, 1.3)
    row = history.no_repeat_ngram(row, tokens, 2)
    row = penalties.ban(row, [7, 11, 1] + ([9] if tokens[-1] == 8 else []))
    row = truncation.temperature(row, 1.4)
    row = cutoffs.top_h(row, 0.9)
    row = truncation.top_k(row, 9, ties="keep")
    row = truncation.top_p(row, 0.9)
    row = truncation.min_p(row, 0.05)
    row = cutoffs.typical(row, 0.9)
    return cutoffs.eta(cutoffs.epsilon(row, 0.01), 0.02)


def test_transformers_with_every_argument_is_the_written_order():
    sampler = jd.presets.transformers(**TRANSFORMERS)
    prompts, generated = histories()
    got = applied(sampler, scores(), prompts, generated)
    rows = zip(scores().tolist(), prompts, generated, strict=True)
    assert_same(got, [plain_transformers(*row) for row in rows])


VLLM = {
    "bad_words_token_ids": [[7], [8, 9]],
    "min_tokens": 20,
    "stop_token_ids": [1, 2],
    "logit_bias": {3: 1.5, 4: -2.0},
    "repetition_penalty": 1.3,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.25,
    "temperature": 1.4,
    "min_p": 0.05,
    "top_k": 9,
    "top_p": 0.9,
}


def plain_vllm(row, prompt, generated):
    tokens = prompt + generated
    row = penalties.ban(row, [7, 1, 2] + ([9] if tokens[-1] == 8 else []))
    row = [z + VLLM["logit_bias"].get(i, 0.0) for i, z in enumerate(row)]
    row = penalties.repetition(row, tokens, 1.3)
    row = penalties.frequency(row, generated, 0.5)
    row = penalties.presence(row, generated, 0.25)
    row = truncation.temperature(row, 1.4)
    row = truncation.min_p(row, 0.05)
    return truncation.top_p(truncation.top_k(row, 9, ties="keep"), 0.9)


def test_vllm_with_every_argument_is_the_written_order():
    prompts, generated = histories(1)
    got = applied(jd.presets.vllm(**VLLM), scores(1), prompts, generated)
    rows = zip(scores(1).tolist(), prompts, generated, strict=True)
    assert_same(got, [plain_vllm(*row) for row in rows])
    allowed = jd.presets.vllm(allowed_token_ids=[3, 5], **VLLM)
    assert names(allowed)[:2] == ["AllowTokens", "BanSequences"]


def test_ties_at_the_cut_stay_as_they_do_there():
    row = np.asarray([[1.0, 3.0, 2.0, 2.0, 2.0]], np.float32)
    kept = {
        name: np.isfinite(np.asarray(jd.apply(make(top_k=2), row)))[0].tolist()
        for name, make in vars(jd.presets).items()
        if name in jd.presets.__all__
    }
    tied, exact = [False, True, True, True, True], [False, True, True, False, False]
    assert kept == {
        "transformers": tied, "vllm": tied, "llama_cpp": exact, "joint": exact
    }  # fmt: skip


def test_boundaries_are_those_of_each_system():
    presets = jd.presets
    assert presets.vllm(temperature=0.001) == jd.chain(jd.Temperature(0.01))
    assert presets.vllm(temperature=[0, 0.005, 2]) == jd.chain(
        jd.Temperature([0, 0.01, 2])
    )
    assert presets.vllm(top_k=[-1, 0, 5]) == jd.chain(jd.TopK([0, 0, 5], ties="keep"))
    assert presets.llama_cpp(temperature=-1.0, top_k=-1, top_n_sigma=-1.0) == jd.chain(
        jd.TopNSigma(0.0), jd.TopK(0), jd.Temperature(0.0)
    )
    assert presets.llama_cpp(repeat_penalty=1.1, repeat_last_n=-1) == jd.chain(
        jd.RepetitionPenalty(1.1)
    )
    assert presets.llama_cpp(temperature=0.5, dynatemp_range=0.8) == jd.chain(
        jd.DynamicTemperature(0.0, 1.3)
    )
    assert presets.llama_cpp(min_p=0.1, min_keep=0) == jd.chain(jd.MinP(0.1))
    assert presets.transformers(epsilon_cutoff=1.0, eta_cutoff=0.0) == jd.chain(
        jd.EpsilonCutoff(0.0), jd.EtaCutoff(0.0)
    )
    assert presets.transformers(do_sample=False) == jd.chain(jd.Temperature(0.0))
    assert presets.transformers() == jd.chain()


def test_joint_is_the_joint_sampler():
    assert jd.presets.joint(top_k=5) == jd.joint(top_k=5)


def test_parameters_may_be_traced_and_one_per_row():
    rows = scores()[:3]

    def run(t, k, n):
        chains = [
            jd.presets.transformers(temperature=t, top_k=k, epsilon_cutoff=n),
            jd.presets.vllm(temperature=t, top_k=k, min_p=n),
            jd.presets.llama_cpp(temperature=t, top_k=k, top_n_sigma=n, min_keep=2),
        ]
        return [jd.apply(sampler, rows) for sampler in chains]

    values = jnp.asarray([0.005, 1.0, 2.0]), jnp.asarray([3, 0, 9]), jnp.float32(0.5)
    eager = run(*values)
    jitted = jax.jit(run)(*values)
    for one, other in zip(eager, jitted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    with count_compiles() as count:
        run(np.asarray([1.0, 0.7, 0.5]), np.asarray([1, 2, 3]), 0.1)
    assert count.count == 0, count.names


def test_a_preset_round_trips_through_json():
    for sampler in (jd.presets.transformers(**TRANSFORMERS), jd.presets.vllm(**VLLM)):
        assert jd.from_dict(json.loads(json.dumps(jd.to_dict(sampler)))) == sampler


P = jd.presets
BAD = [
    (P.transformers, {"num_beams": 4}, TypeError, "num_beams"),
    (P.transformers, {"guidance_scale": 2.0}, TypeError, "guidance_scale"),
    (P.transformers, {"temperature": 0.0}, ValueError, "`temperature` must be > 0"),
    (P.transformers, {"typical_p": 0.0}, ValueError, "`typical_p`"),
    (P.transformers, {"top_k": -1}, ValueError, "`k`"),
    (P.transformers, {"top_p": 1.1}, ValueError, "`p`"),
    (
        P.transformers,
        {"min_new_tokens": 3},
        TypeError,
        "`min_new_tokens`.*eos_token_id",
    ),
    (P.transformers, {"max_length": 9}, TypeError, "`max_length`.*forced_eos_token_id"),
    (P.transformers, {"do_sample": False, "top_k": 5}, TypeError, "`top_k`.*do_sample"),
    (P.transformers, {"do_sample": 1}, TypeError, "`do_sample`"),
    (P.transformers, {"epsilon_cutoff": 1.5}, ValueError, "`eps`"),
    (
        P.transformers,
        {"exponential_decay_length_penalty": 3, "eos_token_id": 1},
        TypeError,
        "start, factor",
    ),
    (P.vllm, {"seed": 3}, TypeError, "seed"),
    (P.vllm, {"n": 3}, TypeError, "n"),
    (P.vllm, {"top_p": 0.0}, ValueError, r"`top_p` must be in \(0, 1\]"),
    (P.vllm, {"top_k": -2}, ValueError, "`top_k` must be >= -1"),
    (P.vllm, {"frequency_penalty": 2.5}, ValueError, "`frequency_penalty`"),
    (P.vllm, {"presence_penalty": -3}, ValueError, "`presence_penalty`"),
    (P.vllm, {"temperature": -1}, ValueError, "`t`"),
    (P.vllm, {"temperature": "hot"}, TypeError, "`t`"),
    (P.vllm, {"min_tokens": 3}, TypeError, "`min_tokens`.*`stop_token_ids`"),
    (P.llama_cpp, {"n_predict": 9}, TypeError, "n_predict"),
    (P.llama_cpp, {"samplers": ["top_q"]}, ValueError, "`samplers`.*'top_q'"),
    (P.llama_cpp, {"samplers": "top_k"}, TypeError, "`samplers`"),
    (
        P.llama_cpp,
        {"samplers": ["top_k"], "min_p": 0.1},
        TypeError,
        "`min_p`.*samplers",
    ),
    (P.llama_cpp, {"mirostat": 2, "top_k": 5}, TypeError, "`top_k`.*mirostat=2"),
    (P.llama_cpp, {"mirostat": 3}, ValueError, "`mirostat`"),
    (P.llama_cpp, {"repeat_last_n": -2}, ValueError, "`repeat_last_n`"),
    (P.llama_cpp, {"min_keep": -1}, ValueError, "`min_keep`"),
    (P.llama_cpp, {"dynatemp_range": -1.0}, ValueError, "`dynatemp_range`"),
    (P.joint, {"typical_p": 0.5}, TypeError, "typical_p"),
]


@pytest.mark.parametrize(("preset", "arguments", "kind", "message"), BAD)
def test_an_argument_without_meaning_is_named(preset, arguments, kind, message):
    with pytest.raises(kind, match=message):
        preset(**arguments)


def test_llama_cpp_has_its_order_or_the_one_asked_for():
    everything = {
        "logit_bias": {1: 2.0}, "repeat_penalty": 1.1, "frequency_penalty": 0.1,
        "presence_penalty": 0.1, "dry_multiplier": 0.8, "top_n_sigma": 1.0,
        "top_k": 40, "typical_p": 0.9, "top_p": 0.9, "min_p": 0.05,
        "xtc_probability": 0.5, "temperature": 0.8, "adaptive_target": 0.5,
    }  # fmt: skip
    assert names(P.llama_cpp(**everything)) == [
        "LogitBias", "RepetitionPenalty", "FrequencyPenalty", "PresencePenalty", "DRY",
        "TopNSigma", "TopK", "Typical", "TopP", "MinP", "XTC", "Temperature",
        "AdaptiveP",
    ]  # fmt: skip
    order = ("temperature", "top_p", "top_k")
    asked = P.llama_cpp(samplers=order, temperature=2.0, top_p=0.9, top_k=5)
    assert names(asked) == ["Temperature", "TopP", "TopK"]
    assert names(P.llama_cpp(mirostat=1, temperature=2.0)) == [
        "Temperature",
        "Mirostat",
    ]
