"""What is seen of a step is what the two distributions say, and costs nothing unasked."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.pytree import replace
from jaxdecode.decode import observables
from tests import tiny
from tests.reference.joint import joint_row

PROMPTS = [[1, 2, 3], [4]]
STEPS = 5
KNOBS = {"top_k": [7, 0], "temperature": [0.7, 1.3], "frequency_penalty": [0.5, 0.9]}
ALL = (
    "entropy",
    "kept",
    "kept_mass",
    "rank",
    "top_logprobs:5",
    "sampling_entropy",
    "sampling_rank",
    "sampling_top_logprobs:3",
)
# The links of `joint` that these knobs turn, in its order.
SAMPLER = jd.chain(
    jd.FrequencyPenalty(KNOBS["frequency_penalty"]),
    jd.TopK(KNOBS["top_k"]),
    jd.Temperature(KNOBS["temperature"]),
)
OPTIONS = {"sampler": SAMPLER, "max_new_tokens": STEPS, "eos_ids": [30]}


@pytest.fixture(scope="module")
def seen():
    return jd.generate(tiny.bag(), PROMPTS, 5, observe=ALL, **OPTIONS)


def steps(out):
    """Yield (row, step, token, raw logits, processed row) of every token drawn."""
    logits = tiny.forward(tiny.bag())
    for row, prompt in enumerate(PROMPTS):
        tokens = out.tokens[row, : out.lengths[row]].tolist()
        knobs = {k: v[row] for k, v in KNOBS.items()}
        for step, token in enumerate(tokens):
            raw = np.asarray(logits(prompt + tokens[:step]), np.float64)
            processed = joint_row(raw, prompt, tokens[:step], **FULL | knobs)
            yield row, step, token, raw, np.asarray(processed, np.float64)


FULL = {
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
}


def probs(row):
    weights = np.exp(row - row.max())
    return weights / weights.sum()


def entropy(row):
    p = probs(row)
    return -sum(x * np.log(x) for x in p if x > 0)


def ranking(row):
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def test_entropies_are_those_of_both_distributions(seen):
    found = seen.observations
    for row, step, _, raw, processed in steps(seen):
        np.testing.assert_allclose(found["entropy"][row, step], entropy(raw), atol=1e-5)
        np.testing.assert_allclose(
            found["sampling_entropy"][row, step], entropy(processed), atol=1e-5
        )


def test_ranks_count_from_one(seen):
    found = seen.observations
    for row, step, token, raw, processed in steps(seen):
        assert found["rank"][row, step] == ranking(raw).index(token) + 1
        assert found["sampling_rank"][row, step] == ranking(processed).index(token) + 1


def test_kept_tokens_are_counted_and_weighed_by_the_model(seen):
    found = seen.observations
    for row, step, _, raw, processed in steps(seen):
        kept = processed > -np.inf
        assert found["kept"][row, step] == kept.sum()
        np.testing.assert_allclose(
            found["kept_mass"][row, step], probs(raw)[kept].sum(), atol=1e-5
        )


def test_the_best_tokens_come_with_their_ids(seen):
    found = seen.observations
    for row, step, _, raw, processed in steps(seen):
        for prefix, values, n in (("", raw, 5), ("sampling_", processed, 3)):
            ids = ranking(values)[:n]
            assert found[f"{prefix}top_ids"][row, step].tolist() == ids
            np.testing.assert_allclose(
                found[f"{prefix}top_logprobs"][row, step],
                np.log(probs(values)[ids]),
                atol=1e-5,
            )


def test_a_greedy_row_keeps_one_token_and_has_no_second():
    out = jd.generate(
        tiny.bag(), [[1]], 0, sampler=jd.Temperature(0), max_new_tokens=2,
        observe=["kept", "sampling_top_logprobs:2", "rank"],
    )  # fmt: skip
    found = out.observations
    assert found["kept"].tolist() == [[1, 1]]
    assert found["rank"].tolist() == [[1, 1]]
    assert found["sampling_top_ids"][0, :, 1].tolist() == [-1, -1]
    assert found["sampling_top_ids"][0, :, 0].tolist() == out.tokens[0].tolist()


def test_behind_the_end_nothing_is_seen():
    options = OPTIONS | {"max_new_tokens": [1, 3], "eos_ids": ()}
    out = jd.generate(tiny.bag(), PROMPTS, 5, observe=ALL, **options).observations
    assert out["entropy"].shape == (2, 3)
    assert not np.asarray(out["rank"])[0, 1:].any()
    assert (np.asarray(out["top_ids"])[0, 1:] == -1).all()


def test_observing_does_not_change_what_is_drawn(seen):
    unseen = jd.generate(tiny.bag(), PROMPTS, 5, **OPTIONS)
    assert unseen.observations == {}
    assert replace(seen, observations={}) == unseen


def test_the_stream_shows_the_same(seen):
    pieces = list(jd.stream(tiny.bag(), PROMPTS, 5, observe=ALL, every=2, **OPTIONS))
    for name, wanted in seen.observations.items():
        joined = np.concatenate([p.observations[name] for p in pieces], axis=1)
        np.testing.assert_array_equal(joined, wanted[:, : joined.shape[1]])


def test_nothing_is_computed_unasked(monkeypatch):
    """A program that observes nothing is the one without any code for it."""

    def program():
        asked = {"sampler": tiny.PLAIN, "max_new_tokens": 3}
        run = jax.jit(lambda: jd.generate(tiny.bag(), PROMPTS, 5, **asked))
        return run.lower().as_text()

    wanted = program()
    jax.clear_caches()
    monkeypatch.setattr("jaxdecode.decode.steps.observe_step", lambda *_, **__: {})
    monkeypatch.setattr("jaxdecode.decode.steps.blank", lambda *_: {})
    assert program() == wanted


BAD = [
    ("surprise", ValueError, "got 'surprise'"),
    ("top_logprobs", ValueError, "top_logprobs:n.*got 'top_logprobs'"),
    ("top_logprobs:0", ValueError, r"\[1, 37\], got 0"),
    ("top_logprobs:38", ValueError, r"\[1, 37\], got 38"),
    ("top_logprobs:x", ValueError, "got 'top_logprobs:x'"),
    ("entropy:2", ValueError, "got 'entropy:2'"),
    ("sampling_kept", ValueError, "got 'sampling_kept'"),
    (3, TypeError, "names such as 'entropy', got 3"),
    ([3], TypeError, "names"),
]


@pytest.mark.parametrize(("names", "kind", "message"), BAD)
def test_an_unknown_name_is_refused(names, kind, message):
    with pytest.raises(kind, match=f"generate: `observe` must be.*{message}"):
        jd.generate(tiny.bag(), [[1]], 0, max_new_tokens=2, observe=names)


def test_a_name_asked_for_twice_is_reported_once():
    asked = observables.as_observables("x", ["rank", "rank"], 9)
    assert [one.name for one in asked] == ["rank"]
