"""A model made of two predictions gives the text of two plain models, however decoded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode.guidance import _contrast, _guide
from jaxdecode.models import ModelConfig, build, random_params
from jaxdecode.testing import count_compiles
from tests import tiny
from tests.reference.llama import llama_logits
from tests.rows import golden

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
NEGATIVES = [[10, 11], [12, 13, 14, 15], [16]]
SCALES = [1.5, 3.0, -0.5]
STEPS = 6
DRAWN = {"sampler": tiny.PLAIN, "max_new_tokens": STEPS}


guide, contrast = jax.jit(_guide, static_argnames="raw"), jax.jit(_contrast)


def log_softmax(row):
    row = np.asarray(row, np.float64)
    return row - np.log(np.exp(row - row.max()).sum()) - row.max()


def continued(logits_of, prompt, row_key, steps=STEPS):
    """Continue a prompt by a function from the generated tokens to logits."""
    tokens = []
    for _ in range(steps):
        row = np.asarray(logits_of(tokens), np.float32)
        key = jax.random.fold_in(row_key, len(prompt) + len(tokens))
        tokens.append(int(jax.random.categorical(key, row)))
    return tokens


def row_key(seed, row, sample=0):
    key = jax.random.fold_in(jax.random.key(seed), row)
    return jax.random.fold_in(key, sample)


def plain_guided(model, prompt, negative, scale, form):
    logits = tiny.forward(model)

    def of(tokens):
        conditional, unconditional = logits(prompt + tokens), logits(negative + tokens)
        if form == "log_softmax":
            conditional, unconditional = (
                log_softmax(conditional),
                log_softmax(unconditional),
            )
        return unconditional + scale * (conditional - unconditional)

    return of


# The other form with a bag is that of the samples below; a llama is contrasted below.
@pytest.mark.parametrize(
    ("model", "form"),
    [
        pytest.param(tiny.llama(), "log_softmax", marks=pytest.mark.slow),
        pytest.param(tiny.llama(), "raw", marks=pytest.mark.slow),
        pytest.param(tiny.bag(), "log_softmax", marks=pytest.mark.slow),
        (tiny.bag(), "raw"),
    ],
    ids=["llama-log_softmax", "llama-raw", "bag-log_softmax", "bag-raw"],
)
def test_guided_text_is_that_of_two_plain_predictions(model, form):
    guided = jd.guided(model, SCALES, NEGATIVES, form=form)
    out = jd.generate(guided, PROMPTS, 7, **DRAWN)
    for row, prompt in enumerate(PROMPTS):
        of = plain_guided(model, prompt, NEGATIVES[row], SCALES[row], form)
        assert out.tokens[row].tolist() == continued(of, prompt, row_key(7, row))


def test_one_negative_prompt_serves_all_rows_and_samples():
    model = tiny.bag()
    guided = jd.guided(model, 2.0, [[10, 11]])
    out = jd.generate(guided, PROMPTS, 7, **DRAWN, num_samples=2)
    for i, tokens in enumerate(out.tokens.tolist()):
        row, sample = divmod(i, 2)
        of = plain_guided(model, PROMPTS[row], [10, 11], 2.0, "log_softmax")
        assert tokens == continued(of, PROMPTS[row], row_key(7, row, sample))


def test_samples_take_the_negative_prompt_and_scale_of_their_row():
    model = tiny.bag()
    guided = jd.guided(model, SCALES, NEGATIVES)
    out = jd.generate(guided, PROMPTS, 7, **DRAWN, num_samples=2)
    for i, tokens in enumerate(out.tokens.tolist()):
        row, sample = divmod(i, 2)
        of = plain_guided(
            model, PROMPTS[row], NEGATIVES[row], SCALES[row], "log_softmax"
        )
        assert tokens == continued(of, PROMPTS[row], row_key(7, row, sample))


@pytest.mark.parametrize("form", ["log_softmax", "raw"])
def test_scale_one_is_the_model_bit_for_bit(form):
    plain = jd.generate(tiny.bag(), PROMPTS, 7, **DRAWN)
    guided = jd.guided(tiny.bag(), [1.0] * 3, NEGATIVES, form=form)
    assert jd.generate(guided, PROMPTS, 7, **DRAWN) == plain


def wrappers():
    one, two = tiny.bag(), tiny.bag(seed=1)
    return {
        "guided": jd.guided(one, SCALES, NEGATIVES),
        "contrastive": jd.contrastive(one, two, alpha=[0.1, 0.5, 0.0]),
    }


@pytest.mark.parametrize(
    "name", ["guided", pytest.param("contrastive", marks=pytest.mark.slow)]
)
def test_score_and_stream_agree_with_generate(name):
    model = wrappers()[name]
    out = jd.generate(model, PROMPTS, 7, **DRAWN)
    again = jd.score(model, PROMPTS, (out.tokens, out.lengths))
    np.testing.assert_allclose(again.model_logprobs, out.model_logprobs, atol=1e-5)
    pieces = jd.stream(model, PROMPTS, 7, **DRAWN)
    joined = np.concatenate([piece.tokens for piece in pieces], axis=1)
    np.testing.assert_array_equal(joined, out.tokens)


def test_score_of_a_guided_text_that_fills_the_model():
    guided = jd.guided(tiny.bag(), 2.0, NEGATIVES[:1])
    room = guided.max_length
    prompts, steps = [[*range(room - 2)], [5]], [2, room - 1]
    out = jd.generate(guided, prompts, 3, sampler=tiny.PLAIN, max_new_tokens=steps)
    again = jd.score(guided, prompts, (out.tokens, out.lengths))
    np.testing.assert_allclose(again.model_logprobs, out.model_logprobs, atol=1e-5)


def test_beam_search_takes_guided_models():
    guided = jd.guided(tiny.bag(), SCALES, NEGATIVES)
    from jaxdecode.decode.beam import beam_search

    beams = beam_search(
        guided, PROMPTS, num_beams=3, max_new_tokens=4, length_penalty=0
    )
    tokens = np.asarray(beams.tokens)[:, 0]
    logprobs = jd.score(guided, PROMPTS, tokens.tolist()).model_logprobs
    np.testing.assert_allclose(
        np.asarray(beams.scores)[:, 0], jnp.sum(logprobs, axis=1), atol=1e-4
    )


def plain_contrastive(expert, amateur, prompt, alpha, beta, temperature):
    strong, weak = tiny.forward(expert), tiny.forward(amateur)

    def of(tokens):
        e = log_softmax(strong(prompt + tokens))
        a = log_softmax(np.asarray(weak(prompt + tokens), np.float64) / temperature)
        plausible = np.exp(e) >= alpha * np.exp(e).max()
        return np.where(plausible, e - beta * a, -np.inf)

    return of


def test_contrastive_text_is_that_of_the_difference():
    expert, amateur = tiny.bag(), tiny.llama()
    alpha, beta, temperature = [0.1, 0.02, 0.3], [1.0, 0.5, 0.0], 0.5
    model = jd.contrastive(
        expert, amateur, alpha=alpha, beta=beta, temperature=temperature
    )
    out = jd.generate(model, PROMPTS, 7, **DRAWN, num_samples=2)
    for i, tokens in enumerate(out.tokens.tolist()):
        row, sample = divmod(i, 2)
        of = plain_contrastive(
            expert, amateur, PROMPTS[row], alpha[row], beta[row], temperature
        )
        assert tokens == continued(of, PROMPTS[row], row_key(7, row, sample))


def plain_dola(config, params, prompt, layers, alpha):
    """The contrast of a llama with itself cut short after a layer."""

    def logits(tokens, depth):
        short = dataclasses.asdict(config) | {"num_layers": depth}
        return llama_logits(short, params, tokens)[-1]

    def divergence(p, q):
        middle = (p + q) / 2
        return sum((x * np.log(x / middle)).sum() for x in (p, q)) / 2

    def of(tokens):
        last = log_softmax(logits(prompt + tokens, config.num_layers))
        early = [log_softmax(logits(prompt + tokens, layer)) for layer in layers]
        far = max(early, key=lambda q: divergence(np.exp(last), np.exp(q)))
        plausible = np.exp(last) >= alpha * np.exp(last).max()
        return np.where(plausible, last - far, -np.inf)

    return of


def test_layers_are_contrasted_with_the_farthest_earlier_one():
    config = ModelConfig(
        family="llama", vocab_size=tiny.VOCAB, width=16, num_layers=2, num_heads=2,
        num_kv_heads=1, head_dim=8, mlp_width=24, max_length=tiny.COLUMNS,
    )  # fmt: skip
    params = dict(random_params(config, 0))
    layers, alpha = (0, 1), [0.1, 0.3, 0.02]
    model = jd.dola(build(config, params), layers, alpha=alpha)
    out = jd.generate(model, PROMPTS, 7, **DRAWN)
    for row, prompt in enumerate(PROMPTS):
        of = plain_dola(config, params, prompt, layers, alpha[row])
        assert out.tokens[row].tolist() == continued(of, prompt, row_key(7, row))
    again = jd.score(model, PROMPTS, (out.tokens, out.lengths))
    np.testing.assert_allclose(again.model_logprobs, out.model_logprobs, atol=1e-4)


HF, HF_ARRAYS = golden("hf_processors")
CFG = [c for c in HF["cases"] if c["processor"] == "cfg_unbatched"]


@pytest.mark.parametrize("case", CFG, ids=lambda case: case["id"])
def test_guidance_is_that_of_hugging_face(case):
    conditional = HF_ARRAYS[case["scores"]]
    unconditional = HF_ARRAYS[case["params"]["unconditional_scores"]]
    scale = jnp.float32(case["params"]["guidance_scale"])
    found = guide(conditional, unconditional, scale, raw=False)
    wanted = HF_ARRAYS[case["output"]]
    pair = (jax.nn.log_softmax(rows) for rows in (np.asarray(found), wanted))
    np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-5)


def test_bans_stay_bans_and_nan_stays_nan():
    inf, nan = np.inf, np.nan
    conditional = np.asarray([[0.0, -inf, 1.0, -inf]], np.float32)
    unconditional = np.asarray([[0.0, 1.0, -inf, -inf]], np.float32)
    for raw in (True, False):
        for scale in (0.0, 0.5, 2.0, -1.0):
            row = np.asarray(
                guide(conditional, unconditional, jnp.float32(scale), raw=raw)
            )[0]
            assert np.isfinite(row[[0, 2]]).all()
            assert (row[[1, 3]] == -inf).all()
    with_nan = np.asarray([[nan, 0.0]], np.float32)
    one, well = np.float32(1.0), np.zeros((1, 2), np.float32)
    assert np.isnan(guide(well, with_nan, np.float32(2.0), raw=True)).any()
    assert np.isnan(contrast(well, with_nan, one, one)).any()
    assert np.isfinite(np.asarray(contrast(conditional, unconditional, one, one))[0, 2])


def test_other_values_do_not_compile_again():
    def run(scale, negatives, alpha):
        jd.generate(jd.guided(tiny.bag(), scale, negatives), PROMPTS, 0, **DRAWN)
        contrastive = jd.contrastive(tiny.bag(), tiny.bag(1), alpha=alpha)
        jd.generate(contrastive, PROMPTS, 0, **DRAWN)

    run(SCALES, [[1], [2], [3]], [0.1, 0.2, 0.3])
    with count_compiles() as count:
        run([2.5, 0.5, 1.0], [[3, 4, 5], [6], [7, 8]], [0.3, 0.0, 0.1])
    assert count.count == 0, count.names


def test_it_runs_inside_the_callers_jit():
    @jax.jit
    def inside(model, scale):
        guided = jd.guided(model, scale, NEGATIVES)
        return jd.generate(guided, PROMPTS, 7, **DRAWN).tokens

    got = inside(tiny.bag(), jnp.asarray(SCALES))
    guided = jd.guided(tiny.bag(), SCALES, NEGATIVES)
    wanted = jd.generate(guided, PROMPTS, 7, **DRAWN).tokens
    np.testing.assert_array_equal(got, wanted)


MODEL = tiny.bag()
BAD = [
    (lambda: jd.guided(3, 1.0, [[1]]), TypeError, "`model`"),
    (lambda: jd.guided(MODEL, "2", [[1]]), TypeError, "guided: `scale`"),
    (lambda: jd.guided(MODEL, np.nan, [[1]]), ValueError, "guided: `scale`"),
    (
        lambda: jd.guided(MODEL, 1.0, [[]]),
        ValueError,
        r"guided: `negative_prompts\[0\]`",
    ),
    (lambda: jd.guided(MODEL, 1.0, [[37]]), ValueError, "negative_prompts.*got 37"),
    (lambda: jd.guided(MODEL, 1.0, [[1]], form="log"), ValueError, "guided: `form`"),
    (lambda: jd.dola(MODEL, [1]), TypeError, "layer_logits"),
    (lambda: jd.dola(tiny.llama(), []), ValueError, "`layers` must hold at least one"),
    (lambda: jd.dola(tiny.llama(), ["a"]), TypeError, "`layers`"),
    (lambda: jd.dola(tiny.llama(), [1], alpha=2), ValueError, "`alpha`.*got 2"),
    (lambda: jd.contrastive(MODEL, 3), TypeError, "contrastive: `amateur`"),
    (lambda: jd.contrastive(MODEL, MODEL, alpha=1.5), ValueError, "`alpha`.*got 1.5"),
    (lambda: jd.contrastive(MODEL, MODEL, beta=-1), ValueError, "`beta`.*got -1"),
    (lambda: jd.contrastive(MODEL, MODEL, temperature=0), ValueError, "`temperature`"),
    (
        lambda: jd.contrastive(MODEL, tiny.llama(vocab_size=11)),
        ValueError,
        "vocabulary of 37 token ids, got 11",
    ),
]


@pytest.mark.parametrize(("build", "kind", "message"), BAD)
def test_a_bad_argument_is_refused(build, kind, message):
    with pytest.raises(kind, match=message):
        build()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (jd.guided(MODEL, 2.0, [[1], [2]]), r"negative_prompts.*\(3\), got 2"),
        (jd.guided(MODEL, [2.0, 3.0], [[1]]), r"scale.*\(3\), got 2"),
        (jd.contrastive(MODEL, MODEL, alpha=[0.1, 0.2]), r"alpha.*\(3\), got 2"),
        (jd.dola(tiny.llama(), [1], alpha=[0.1, 0.2]), r"alpha.*\(3\), got 2"),
        (jd.dola(tiny.llama(), [2]), r"layers.*\[0, 1\], got 2"),
    ],
)
def test_parameters_that_do_not_fit_the_prompts_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        jd.generate(model, PROMPTS, 0, max_new_tokens=2)


def test_a_text_that_does_not_fit_behind_either_prompt_is_refused():
    guided = jd.guided(MODEL, 2.0, [[1]])
    with pytest.raises(ValueError, match="<= 33, the model's positions, got 34"):
        jd.generate(guided, [[1, 2]], 0, max_new_tokens=32)
