"""What is compiled again at every call, or baked into a program, is said once."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode import recompiling
from jaxdecode.decode.recompiling import RecompilationWarning
from tests import tiny
from tests.models.toys import SIZES, batched, make_params

PARAMS = make_params()


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch):
    monkeypatch.setattr(recompiling, "_looks", type(recompiling._looks)())
    monkeypatch.setattr(recompiling, "_warned", set())


def write(model):
    return jd.generate(model, [[1, 2]], 0, sampler=tiny.PLAIN, max_new_tokens=2).tokens


def over_array(params):
    """A closure over arrays: nothing says whether another one is the same."""

    def logits(_, tokens):
        return batched(params, tokens)

    return jd.from_logits_function(logits, jnp.zeros(()), **SIZES)


def said(call, times):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(times):
            call()
    return [w for w in found if issubclass(w.category, RecompilationWarning)]


def test_a_function_made_anew_at_each_call_is_named_once():
    found = said(lambda: write(over_array(dict(PARAMS))), 4)
    assert len(found) == 1
    message = str(found[0].message)
    assert message.startswith("generate: the model is compiled again")
    assert "params" in message
    assert found[0].filename == __file__


def test_an_object_made_anew_at_each_call_is_named_too():
    assert len(said(lambda: write(tiny.bag(kind=Unknown)), 4)) == 1


class Unknown:
    """A model that is no pytree."""

    def __init__(self, table):
        self.model = tiny.Bag(table)
        self.vocab_size, self.max_length = tiny.VOCAB, tiny.COLUMNS
        self.init_cache = self.model.init_cache

    def __call__(self, *args, **named):
        return self.model(*args, **named)


@pytest.mark.parametrize(
    "make",
    [
        lambda: jd.from_logits_function(batched, PARAMS, **SIZES),
        lambda: jd.from_logits_function(lambda p, t: batched(p, t), PARAMS, **SIZES),
        tiny.bag,
    ],
)
def test_what_compiles_once_is_not_named(make):
    assert not said(lambda: write(make()), 4)


def large():
    """A model of 1.3 MB."""
    table = np.zeros((10_000, tiny.VOCAB), np.float32)

    def logits(table, tokens):
        return table[tokens]

    sizes = {"vocab_size": tiny.VOCAB, "max_length": tiny.COLUMNS}
    return jd.from_logits_function(logits, table, **sizes)


def test_weights_that_are_constants_of_a_jit_are_named_once():
    model = large()

    def run(key):
        return jd.generate(
            model, [[1, 2]], key, sampler=tiny.PLAIN, max_new_tokens=2
        ).tokens

    def compile_anew():
        jax.jit(lambda key: run(key)).lower(jax.random.key(0))

    found = said(compile_anew, 2)
    assert len(found) == 1
    assert "1 MB of the model are constants of your jit" in str(found[0].message)
    assert found[0].filename == __file__


def test_weights_that_are_arguments_are_not_named():
    def run(model, key):
        return jd.generate(
            model, [[1, 2]], key, sampler=tiny.PLAIN, max_new_tokens=2
        ).tokens

    assert not said(lambda: jax.jit(run).lower(large(), jax.random.key(0)), 2)
    over_keys = jax.vmap(lambda key: run(large(), key[None]))
    keys = jax.random.split(jax.random.key(0), 2)
    assert not said(lambda: jax.eval_shape(over_keys, keys), 1)
