"""The compiled loop against ten lines of Python that know no cache and no window."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from tests import tiny
from tests.reference.joint import joint_row

STEPS = 7


def plain_generate(logits, prompt, row_key, steps, eos_ids, **settings):
    """Continue one prompt the slow way; `logits` reads a whole token list."""
    tokens = list(prompt)
    while len(tokens) - len(prompt) < steps:
        generated = tokens[len(prompt) :]
        row = joint_row(logits(tokens), prompt, generated, **settings)
        step_key = jax.random.fold_in(row_key, len(tokens))
        tokens.append(int(jax.random.categorical(step_key, row)))
        if tokens[-1] in eos_ids:
            break
    return tokens[len(prompt) :]


def random_settings(rng):
    """Draw one setting of every knob; each is off about a third of the time."""

    def maybe(off, value):
        return off if rng.random() < 0.35 else value

    return {
        "top_k": maybe(0, int(rng.integers(1, 12))),
        "top_p": maybe(1.0, float(np.float32(rng.uniform(0, 1)))),
        "min_p": maybe(0.0, float(np.float32(rng.uniform(0, 0.5)))),
        "temperature": maybe(1.0, float(np.float32(rng.choice([0, 0.3, 0.8, 2.5])))),
        "repetition_penalty": maybe(1.0, float(np.float32(rng.uniform(0.5, 2)))),
        "frequency_penalty": maybe(0.0, float(np.float32(rng.uniform(-1, 2)))),
        "presence_penalty": maybe(0.0, float(np.float32(rng.uniform(-1, 2)))),
    }


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("model", "count"),
    [
        pytest.param(tiny.llama(), 20, id="llama"),
        pytest.param(tiny.llama(), 50, id="more llama", marks=pytest.mark.slow),
        pytest.param(
            tiny.bag(kind=tiny.Opaque), 50, id="opaque", marks=pytest.mark.slow
        ),
    ],
)
def test_the_loop_draws_what_a_plain_reference_draws(model, count):
    rng = np.random.default_rng(20261)
    settings = [random_settings(rng) for _ in range(count)]
    prompts = [
        rng.integers(0, tiny.VOCAB, rng.integers(1, 14)).tolist() for _ in settings
    ]
    seeds = rng.integers(0, 2**32, count).tolist()
    eos = [int(rng.integers(tiny.VOCAB))]
    logits, wanted = tiny.forward(model), []
    for prompt, seed, setting in zip(prompts, seeds, settings, strict=True):
        row_key = jax.random.fold_in(jax.random.key(np.uint32(seed)), 0)
        wanted.append(plain_generate(logits, prompt, row_key, STEPS, eos, **setting))
    sampler = jd.joint(**{k: [s[k] for s in settings] for k in settings[0]})
    out = jd.generate(
        model, prompts, seeds, sampler=sampler, max_new_tokens=STEPS, eos_ids=eos
    )
    rows = zip(np.asarray(out.tokens), out.lengths, strict=True)
    got = [tokens[:length].tolist() for tokens, length in rows]
    assert got == wanted


def test_samples_of_a_prompt_have_their_own_keys():
    model, prompt, key = tiny.llama(), [3, 1, 4], jax.random.key(5)
    asked = {"sampler": tiny.PLAIN, "max_new_tokens": STEPS, "num_samples": 3}
    out = jd.generate(model, [prompt], key, **asked)
    for sample in range(3):
        row_key = jax.random.fold_in(jax.random.fold_in(key, 0), sample)
        wanted = plain_generate(tiny.forward(model), prompt, row_key, STEPS, ())
        assert out.tokens[sample].tolist() == wanted


def test_logprobs_are_those_of_the_two_distributions():
    model, prompt = tiny.llama(), [3, 1, 4, 1, 5]
    knobs = {"top_k": 5, "temperature": 0.7, "presence_penalty": 0.5}
    out = jd.generate(model, [prompt], 9, sampler=jd.joint(**knobs), max_new_tokens=5)
    tokens = out.tokens[0].tolist()
    logits = tiny.forward(model)
    for step, token in enumerate(tokens):
        raw = logits(prompt + tokens[:step])
        row = joint_row(raw, prompt, tokens[:step], **knobs)
        for values, got in ((raw, out.model_logprobs), (row, out.sampling_logprobs)):
            exact = np.asarray(values, np.float64)
            wanted = exact[token] - np.log(np.exp(exact).sum())
            np.testing.assert_allclose(got[0, step], wanted, atol=2e-5)


def test_a_text_resumed_from_a_longer_prompt_is_the_same_text():
    model, key = tiny.llama(), jax.random.key(11)
    keys = jax.random.fold_in(key, 0)[None]
    sampler = jd.joint(top_k=9, top_p=0.9, temperature=1.3)
    whole = jd.generate(model, [[7, 8]], keys, sampler=sampler, max_new_tokens=9)
    head = whole.tokens[0, :4].tolist()
    rest = jd.generate(model, [[7, 8, *head]], keys, sampler=sampler, max_new_tokens=5)
    assert whole.tokens[0, 4:].tolist() == rest.tokens[0].tolist()


# Asked of every kind of loop, so that they are compared with one generation.
IN_PARTS = {
    "sampler": tiny.PLAIN,
    "max_new_tokens": [4, 11, 7],
    "eos_ids": [5, 9],
    "num_samples": 2,
}


def test_the_fixed_scan_gives_the_tokens_of_the_while_loop():
    model, prompts = tiny.llama(), [[1], [2, 3, 4], [5, 6]]
    kinds = [
        jd.generate(model, prompts, 3, loop=loop, **IN_PARTS)
        for loop in ("while", "scan")
    ]
    np.testing.assert_array_equal(kinds[0].tokens, kinds[1].tokens)
    np.testing.assert_array_equal(kinds[0].status, kinds[1].status)


def test_the_stream_is_the_generation_in_pieces():
    model, prompts = tiny.llama(), [[1], [2, 3, 4], [5, 6]]
    whole = jd.generate(model, prompts, 3, **IN_PARTS)
    pieces = list(jd.stream(model, prompts, 3, every=3, **IN_PARTS))
    assert [p.tokens.shape[1] for p in pieces][:2] == [1, 3]
    joined = np.concatenate([p.tokens for p in pieces], axis=1)
    width = joined.shape[1]
    np.testing.assert_array_equal(joined, whole.tokens[:, :width])
    np.testing.assert_array_equal(sum(p.lengths for p in pieces), whole.lengths)
    np.testing.assert_array_equal(pieces[-1].status, whole.status)
