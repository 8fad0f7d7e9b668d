"""A parameter that turns out, inside a `jit`, to be out of range draws nothing."""

import dataclasses
import inspect
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from tests import tiny
from tests.bad_values import BAD

LOGITS = np.random.default_rng(0).normal(size=(3, tiny.VOCAB)).astype(np.float32)
GOOD = {"t": 1.0, "p": 0.9, "k": 5, "penalty": 1.5}


def _cases():
    """Yield (class, arguments, the one that is out of range) where it can be traced."""
    for who, given, error, message in BAD:
        kind, name = getattr(jd, who), re.match(r"`(\w+)`", message)[1]
        *args, last = given
        args, named = (args, last) if isinstance(last, dict) else (given, {})
        arguments = inspect.signature(kind).bind(*args, **named).arguments
        fields = {field.name: field for field in dataclasses.fields(kind)}
        value = arguments.get(name)
        if error is not ValueError or not isinstance(value, (int, float)):
            continue
        if fields[name].metadata or value in (2**31, 1e39):
            continue  # static, or shared by all rows, or of no type that is traced
        yield pytest.param(kind, arguments, name, id=f"{who} {name}={value}")


CASES = list(_cases())


def _traced():
    """Return {class: {parameter: a good value}} for what is traced in any case of it."""
    found = {}
    for kind, _, name in (case.values for case in CASES):
        fields = {field.name: field for field in dataclasses.fields(kind)}
        found.setdefault(kind, {})[name] = fields[name].default
    return found


def _is_whole(kind, name):
    """Whether a parameter is a whole number in all cases of its class."""
    given = [case.values[1].get(name) for case in CASES if case.values[0] is kind]
    return not any(isinstance(value, float) for value in given)


TRACED = _traced()


@pytest.fixture(scope="module")
def program_of():
    """Return what makes a program of one link; values of its parameters share it."""
    programs = {}

    def program_of(kind, others):
        def run(values):
            link, keys = kind(**others, **values), [1, 2, 3]
            return jd.sample(link, LOGITS, keys), jd.apply(link, LOGITS, key=keys)

        return programs.setdefault((kind, repr(others)), jax.jit(run))

    return program_of


@pytest.mark.parametrize(("kind", "arguments", "name"), CASES)
def test_a_row_with_a_traced_parameter_out_of_range_is_invalid(
    kind, arguments, name, program_of
):
    given = {**TRACED[kind], **arguments}
    values = {
        key: (np.int32 if _is_whole(kind, key) else np.float32)(value)
        for key, value in given.items()
        if key in TRACED[kind] and value is not None  # None is no number: it is static
    }
    others = {key: value for key, value in given.items() if key not in values}
    drawn, processed = program_of(kind, others)(values)
    assert drawn.tolist() == [-1, -1, -1]
    assert np.isnan(processed).all()


def test_the_cases_reach_most_links():
    assert len({case.values[0] for case in CASES}) >= 20


@pytest.mark.parametrize("loop", ["while", "scan"])
def test_only_the_row_whose_parameter_is_out_of_range_is_invalid(loop):
    prompts, model = [[3, 1], [4, 1], [5, 9]], tiny.bag()

    @jax.jit
    def run(p, k):
        sampler = jd.chain(jd.TopP(p), jd.TopK(k))
        asked = {"sampler": sampler, "max_new_tokens": 4, "loop": loop}
        return jd.generate(model, prompts, [1, 2, 3], **asked)

    good = run(jnp.asarray([0.5, 0.9, 0.9]), jnp.asarray([9, 9, 9]))
    bad = run(jnp.asarray([0.5, 1.5, math.nan]), jnp.asarray([9, 9, -1]))
    assert bad.status.tolist() == [
        jd.Status.LENGTH,
        jd.Status.INVALID,
        jd.Status.INVALID,
    ]
    assert bad.lengths.tolist() == [4, 0, 0]
    np.testing.assert_array_equal(bad.tokens[0], good.tokens[0])
    assert good.status.tolist() == [jd.Status.LENGTH] * 3


def test_a_traced_budget_below_one_is_invalid():
    @jax.jit
    def run(budget):
        asked = {"max_new_tokens": budget, "new_tokens_max": 4}
        return jd.generate(tiny.bag(), [[3, 1], [4, 1]], [1, 2], **asked).status

    assert run(jnp.asarray([0, 2])).tolist() == [jd.Status.INVALID, jd.Status.LENGTH]


def test_beams_and_scores_say_it_too():
    prompts, model = [[3, 1], [4, 1]], tiny.bag()

    @jax.jit
    def search(penalty):
        edits = jd.RepetitionPenalty(penalty)
        asked = {"num_beams": 2, "max_new_tokens": 3, "edits": edits}
        return jd.beam_search(model, prompts, **asked).status

    @jax.jit
    def score(p):
        found = jd.score(model, prompts, [[3, 5], [7]], sampler=jd.TopP(p))
        return found.sampling_logprobs, found.model_logprobs

    status = search(jnp.asarray([1.2, 0.0]))
    assert status[0, 0] == jd.Status.LENGTH
    assert status[1, 0] == jd.Status.INVALID
    sampling, own = score(jnp.asarray([0.9, 2.0]))
    assert np.isnan(sampling[1, 0])
    assert not np.isnan(sampling[0]).any()
    assert not np.isnan(own).any()
