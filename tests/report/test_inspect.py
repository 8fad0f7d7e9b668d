"""The numbers of an inspection, against plain computations with the library."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.text.playground import (
    KNOBS,
    PRESETS,
    base_of,
    settings_of,
    temperatures_of,
)
from tests import tiny
from tests.report.cases import PROMPT, inspect, language_model

FULL = {
    "top_k": 20,
    "top_p": 0.9,
    "min_p": 0.01,
    "temperature": 0.7,
    "repetition_penalty": 1.3,
    "frequency_penalty": 0.2,
    "presence_penalty": 0.1,
}


@pytest.fixture(scope="module")
def found():
    return inspect(jd.joint(**FULL))


def rows_of(found, model):
    """Return the model's logits before each token, from the whole text."""
    logits = tiny.forward(model)
    text = [*found.prompt, *found.tokens]
    starts = range(len(found.prompt), len(text))
    return np.stack([logits(text[:end]) for end in starts])


def after_links(found, links, rows):
    """Return the rows after some links, each with its own history."""
    count = len(found.tokens)
    done = jd.apply(
        jd.chain(*links),
        rows,
        prompts=[list(found.prompt)] * count,
        generated=[list(found.tokens[:t]) for t in range(count)],
    )
    return np.asarray(done)


def test_the_text_is_that_of_generate(found):
    options = {"key": 3, "max_new_tokens": 11, "eos_ids": ()}
    text = language_model().generate(PROMPT, sampler=jd.joint(**FULL), **options)
    assert found.text == text
    assert "".join(found.pieces()) == text


def test_every_link_is_what_apply_makes_of_the_links_up_to_it(found):
    model, links = language_model().model, found.sampler.links
    rows = rows_of(found, model)
    step = np.arange(len(found.tokens))
    for place in range(len(links) + 1):
        after = after_links(found, links[:place], rows) if place else rows
        logprobs = np.asarray(jax.nn.log_softmax(after, axis=1))
        tokens = np.asarray(found.tokens)
        own = found.steps.logprob[:, place]
        np.testing.assert_allclose(own, logprobs[step, tokens], atol=1e-5)
        listed = np.take_along_axis(logprobs, found.steps.ids, axis=1)
        np.testing.assert_allclose(found.steps.logprobs[:, place], listed, atol=1e-5)
        p = np.exp(logprobs)
        entropy = -np.sum(np.where(p > 0, p * np.where(p > 0, logprobs, 0), 0), axis=1)
        np.testing.assert_allclose(found.steps.entropy[:, place], entropy, atol=1e-5)
        better = np.sum(after > after[step, tokens][:, None], axis=1)
        np.testing.assert_array_equal(found.steps.rank[:, place], 1 + better)


def test_what_a_link_removed_is_counted_before_it(found):
    rows = rows_of(found, language_model().model)
    links = found.sampler.links
    for place in range(len(links)):
        before = after_links(found, links[:place], rows) if place else rows
        after = after_links(found, links[: place + 1], rows)
        lost = (before > -np.inf) & (after == -np.inf)
        mass = np.sum(np.where(lost, np.asarray(jax.nn.softmax(before)), 0), axis=1)
        np.testing.assert_array_equal(found.steps.removed_count[:, place], lost.sum(1))
        np.testing.assert_allclose(found.steps.removed_mass[:, place], mass, atol=1e-5)
    assert found.steps.removed_count.sum() > 100


def test_the_largest_sum_of_logprob_and_noise_is_the_token_drawn(found):
    sums = found.steps.logprobs[:, -1] + found.steps.noise
    best = np.take_along_axis(found.steps.ids, sums.argmax(axis=1)[:, None], axis=1)
    np.testing.assert_array_equal(best[:, 0], found.tokens)


@pytest.mark.parametrize("t", [0.5, 1.0, 1.5])
def test_stored_and_tail_together_are_the_whole_row(monkeypatch, t):
    found = inspect(jd.joint(temperature=t), stored=8, monkeypatch=monkeypatch)
    assert found.steps.top_ids.shape[1] == 8
    rows = rows_of(found, language_model().model)
    at = temperatures_of(t).index(t)
    for step, row in enumerate(rows):
        past = [*found.prompt, *found.tokens[:step]]
        known = np.unique([*found.steps.top_ids[step], *past])
        tail = np.delete(row, known).astype(np.float64)
        assert found.steps.tail_count[step] == tail.size
        best = row.max() / np.float64(t)
        weight = np.exp(tail / t - best)
        mass = np.log(weight.sum())
        np.testing.assert_allclose(found.steps.tail_mass[step, at], mass, atol=1e-5)
        mean = np.sum(weight * tail / t) / weight.sum()
        np.testing.assert_allclose(found.steps.tail_mean[step, at], mean, atol=1e-5)
        bounds = [tail.max(), tail.min()]
        np.testing.assert_allclose(found.steps.tail_bounds[step], bounds, atol=1e-5)


@pytest.mark.slow
def test_a_stochastic_link_and_one_that_observes_are_replayed_as_they_were_drawn():
    sampler = jd.chain(jd.XTC(0.05, 0.5), jd.Mirostat(2.0, 0.3))
    found = inspect(sampler)
    lm = language_model()
    prompt = [lm.encode(PROMPT)]
    out = jd.generate(lm.model, prompt, 3, sampler=sampler, max_new_tokens=11)
    assert found.tokens == tuple(out.tokens[0].tolist())
    drawn = np.asarray(out.sampling_logprobs[0])
    np.testing.assert_allclose(found.steps.logprob[:, -1], drawn, atol=1e-5)


def test_a_variant_is_the_text_of_its_sampler_under_the_same_key():
    other = jd.joint(temperature=0.5)
    found = inspect(what_if={"cold": other})
    lm = language_model()
    prompt = [lm.encode(PROMPT)]
    out = jd.generate(lm.model, prompt, 3, sampler=other, max_new_tokens=11)
    (variant,) = found.variants
    assert variant.label == "cold"
    assert variant.tokens == out.tokens[0].tolist()


def test_the_playground_begins_after_leading_edits_and_keeps_the_users_order():
    sampler = jd.chain(jd.BanTokens([5]), jd.Temperature(0.7), jd.TopP(0.25), jd.DRY(1))
    values, order, left_out = settings_of(sampler)
    assert base_of(sampler) == 1
    assert (values["temperature"], values["top_p"]) == (0.7, 0.25)
    assert order.index("temperature") < order.index("top_p")
    assert [type(link).__name__ for link in left_out] == ["DRY"]


def test_every_order_names_every_knob_and_joint_is_the_first():
    for order in PRESETS.values():
        assert sorted(order) == sorted(KNOBS)
    assert settings_of(jd.joint())[1] == PRESETS["jaxdecode"]


@pytest.mark.parametrize(
    ("preset", "chain"),
    [
        ("Hugging Face", jd.presets.transformers),
        ("vLLM", jd.presets.vllm),
        ("llama.cpp", jd.presets.llama_cpp),
    ],
)
def test_the_orders_are_those_of_the_librarys_presets(preset, chain):
    values = {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_p": 0.1}
    kinds = {kind: name for name, (kind, *_) in KNOBS.items()}
    links = [kinds[type(link)] for link in chain(**values).links]
    assert [name for name in PRESETS[preset] if name in links] == links


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"what_if": "hot"}, TypeError, "`what_if` must be a sampler"),
        ({"beams": -1}, ValueError, "`beams` must be >= 0, got -1"),
        ({"keys": 3}, TypeError, "keys"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, kind, message):
    with pytest.raises(kind, match=message):
        inspect(**options)


def test_a_model_that_allows_nothing_is_refused():
    everything = jd.BanTokens(list(range(tiny.VOCAB)))
    with pytest.raises(ValueError, match="first row of logits must allow a token"):
        inspect(everything)


@pytest.mark.parametrize(
    "link",
    [
        lambda lm: jd.Regex("[a-z]{3,40}", lm),
        lambda lm: jd.BanSequences([[5], [7, 8]]),
        lambda lm: jd.LogitBias(np.arange(37.0)),
    ],
    ids=["tables", "sequences", "vector"],
)
def test_a_sampler_is_shown_in_a_line_whatever_tables_it_holds(link):
    shown = repr(jd.chain(link(language_model()), jd.TopP([0.5, 0.9]), jd.TopK(7)))
    assert len(shown) < 300
    assert "\n" not in shown
    assert shown.endswith("TopP(p=[0.5, 0.9]), TopK(k=7))")


def test_padding_is_no_part_of_what_is_shown():
    assert "ids=[5])" in repr(jd.chain(jd.BanTokens([5])))
