"""Given tokens are scored as they would have been drawn, and can be differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.testing import count_compiles
from tests import tiny
from tests.reference.joint import joint_row

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11]]
KNOBS = {
    "top_k": [0, 5, 9],
    "top_p": [0.9, 1.0, 0.8],
    "temperature": [1.0, 0.7, 1.5],
    "repetition_penalty": [1.0, 1.2, 0.8],
    "frequency_penalty": [0.5, 0.0, -0.3],
}
SAMPLER = jd.joint(**KNOBS)
STEPS = 7


def log_softmax(row):
    row = np.asarray(row, np.float64)
    with np.errstate(divide="ignore"):
        return row - np.log(np.exp(row - row.max()).sum()) - row.max()


def test_log_probs_are_those_of_the_rows_before_and_after_the_links():
    model, given = tiny.bag(), [[3, 1, 4, 1, 5], [9, 2], [6]]
    got = jd.score(model, PROMPTS, given, sampler=SAMPLER)
    logits = tiny.forward(model)
    for row, (prompt, tokens) in enumerate(zip(PROMPTS, given, strict=True)):
        for t, token in enumerate(tokens):
            raw = logits(prompt + tokens[:t])
            knobs = {k: v[row] for k, v in KNOBS.items()}
            processed = joint_row(raw, prompt, tokens[:t], min_p=0.0, **knobs)
            for rows, found in (
                (raw, got.model_logprobs),
                (processed, got.sampling_logprobs),
            ):
                wanted = log_softmax(rows)[token]
                np.testing.assert_allclose(found[row, t], wanted, atol=1e-5)
    assert got.lengths.tolist() == [5, 2, 1]
    assert got.model_logprobs.shape == (3, 5)
    assert not np.asarray(got.model_logprobs)[1, 2:].any()


def generated(sampler, model=None, prompts=PROMPTS, samples=1, steps=STEPS):
    model = model or tiny.bag()
    out = jd.generate(
        model, prompts, 3, sampler=sampler, max_new_tokens=steps, eos_ids=[7],
        num_samples=samples,
    )  # fmt: skip
    again = jd.score(model, prompts, (out.tokens, out.lengths), sampler=sampler, key=3)
    return out, again


# The first two hold what those behind them hold one by one.
CHAINS = {
    "joint": jd.joint(**KNOBS),
    "history, coin and feedback": jd.chain(
        jd.DRY(0.8, allowed_length=0),
        jd.XTC(0.05, 0.7),
        jd.Temperature(1.3),
        jd.Mirostat(2.0, 0.3),
    ),
    "none": None,
    "greedy": jd.Temperature(0),
    "feedback": jd.chain(jd.Temperature(1.3), jd.Mirostat(2.0, 0.3)),
    "history": jd.chain(jd.DRY(0.8, allowed_length=0), jd.NoRepeatNGram(2)),
    "coin": jd.XTC(0.05, 0.7),
    "mixed": jd.chain(jd.TopK(9), jd.FrequencyPenalty(0.7), jd.TopP(0.9)),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if place > 1 else [])
        for place, name in enumerate(CHAINS)
    ],
)
def test_generated_text_has_the_log_probs_it_was_drawn_with(name):
    out, again = generated(CHAINS[name], samples=2)
    for field in ("model_logprobs", "sampling_logprobs"):
        np.testing.assert_allclose(
            getattr(again, field), getattr(out, field), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize(
    "make", [tiny.bag, pytest.param(tiny.llama, marks=pytest.mark.slow)]
)
def test_a_prompt_and_continuation_that_fill_the_model(make):
    prompts = [[*range(1, 37), 3, 4], [5, 6]]
    steps = [tiny.COLUMNS - 38, tiny.COLUMNS - 2]
    out, again = generated(jd.Temperature(1.2), make(), prompts, steps=steps)
    np.testing.assert_allclose(
        again.sampling_logprobs, out.sampling_logprobs, rtol=0, atol=1e-5
    )


def test_a_token_that_the_sampler_would_not_draw_has_no_probability():
    got = jd.score(tiny.bag(), [[1]], [[2, 3]], sampler=jd.BanTokens([3]))
    assert got.sampling_logprobs[0, 1] == -np.inf
    assert np.isfinite(got.model_logprobs).all()


def test_an_empty_continuation_has_nothing_to_score():
    got = jd.score(tiny.bag(), [[1], [2]], [[], [3]])
    assert got.lengths.tolist() == [0, 1]
    assert got.model_logprobs[0].tolist() == [0.0]


def test_it_runs_inside_the_callers_jit():
    tokens = jnp.zeros((3, 8), jnp.int32).at[:, :3].set(jnp.asarray([[1, 2, 3]] * 3))
    lengths = jnp.asarray([3, 1, 2])
    given = jnp.asarray([[4, 5], [6, 7], [8, 9]]), jnp.asarray([2, 1, 2])
    smooth = jd.chain(
        jd.FrequencyPenalty([0.5, 0, -0.3]), jd.Temperature([1, 0.7, 1.5])
    )
    inside = jax.jit(
        lambda model, *arrays: (
            jd.score(model, arrays[:2], arrays[2:], sampler=smooth).sampling_logprobs
        )
    )
    got = inside(tiny.bag(), tokens, lengths, *given)
    lists = [[1, 2, 3], [1], [1, 2]], [[4, 5], [6], [8, 9]]
    wanted = jd.score(tiny.bag(), *lists, sampler=smooth).sampling_logprobs
    np.testing.assert_allclose(got, wanted, atol=1e-5)


SMOOTH = jd.chain(
    jd.RepetitionPenalty(1.3), jd.TopK([0, 5, 9]), jd.Temperature([1, 0.7, 1.5])
)  # no nucleus: its edge moves too often for finite differences


def best_tokens(model, prompt, count):
    """Return the likeliest tokens under the penalty of `SMOOTH`, one by one."""
    logits, found = tiny.forward(model), []
    for _ in range(count):
        raw = logits(prompt + found)
        row = joint_row(raw, prompt, found, repetition_penalty=1.3)
        found.append(int(np.argmax(row)))
    return found


# Without links it is the slope of the policy gradient below.
@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(None, id="model", marks=pytest.mark.slow),
        pytest.param(SMOOTH, id="sampler"),
    ],
)
def test_its_slope_is_that_of_finite_differences(sampler):
    # Tokens that stay inside every truncation, or the slope is of -inf.
    model, given = tiny.bag(), [[28, 1, 4], [9, 2], [6]]
    if sampler is not None:
        given = [best_tokens(model, prompt, 3) for prompt in PROMPTS]

    @jax.jit
    @jax.value_and_grad
    def total(scale):
        scaled = jax.tree.map(lambda leaf: leaf * scale, model)
        got = jd.score(scaled, PROMPTS, given, sampler=sampler)
        return jnp.sum(got.sampling_logprobs)

    step = np.float32(3e-3)
    measured = (total(1 + step)[0] - total(1 - step)[0]) / (2 * step)
    slope = total(np.float32(1.0))[1]
    np.testing.assert_allclose(slope, measured, rtol=2e-2, atol=1e-3)


def test_a_policy_gradient_is_the_score_functions():
    """At ratio 1 the slope of the ratio is that of the log-probability."""
    model = tiny.llama()
    out = jd.generate(model, PROMPTS, 1, sampler=tiny.PLAIN, max_new_tokens=3)

    def ratios(head):
        moved = jax.tree.map(lambda leaf: leaf, model)
        moved = moved.__class__(
            leaves=(*moved.leaves[:-1], head), definition=moved.definition
        )
        new = jd.score(moved, PROMPTS, (out.tokens, out.lengths)).model_logprobs
        return new - out.model_logprobs

    @jax.jit
    def slopes(head):
        found, back = jax.vjp(ratios, head)
        return found, back(jnp.exp(found))[0], back(jnp.ones_like(found))[0]

    found, one, two = slopes(model.leaves[-1])
    np.testing.assert_allclose(found, 0, atol=1e-5)
    np.testing.assert_allclose(one, two, atol=1e-4)
    assert np.abs(two).max() > 0.1


def test_new_values_never_compile_again():
    jd.score(tiny.bag(), PROMPTS, [[1]] * 3, sampler=SAMPLER)
    with count_compiles() as count:
        other = jd.joint(top_k=3, temperature=[0, 1, 2])
        jd.score(tiny.bag(), [[1], [2, 3], [4]], [[5, 6], [], [7]], sampler=other)
    assert count.count == 0, count.names


BAD = [
    ({"continuations": "abc"}, TypeError, "`continuations` must be token lists"),
    (
        {"continuations": [1, 2, 3]},
        TypeError,
        r"continuations\[0\].* list of token ids",
    ),
    ({"continuations": [[1.0]] * 3}, TypeError, r"continuations\[0\].*got 1.0"),
    ({"continuations": [[1], [37], [1]]}, ValueError, r"continuations\[1\].*got 37"),
    ({"continuations": [[1], [2]]}, ValueError, r"for each prompt \(3\), got 2"),
    ({"continuations": []}, ValueError, "`continuations` must hold at least one"),
    ({"continuations": [[1] * 47, [1], [1]]}, ValueError, "<= 48.*got 50"),
    ({"prompts": [[], [1], [2]]}, ValueError, r"prompts\[0\]"),
    ({"sampler": jd.XTC(0.1, 0.5)}, ValueError, "`key` must be given"),
    ({"sampler": jd.TopK([1, 2])}, ValueError, r"one per prompt \(3\)"),
    ({"sampler": "top_k"}, TypeError, "must be a link"),
    ({"continuations": (np.zeros((3, 2)), np.ones(3, int))}, TypeError, "integer"),
    (
        {"continuations": (np.zeros((3, 2), int), np.full(3, 3))},
        ValueError,
        r"\[1, 2\], got 3",
    ),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD)
def test_a_bad_argument_is_refused(options, kind, message):
    options = {"prompts": PROMPTS, "continuations": [[1]] * 3} | options
    with pytest.raises(kind, match=message):
        jd.score(tiny.bag(), **options)
