"""Functions are equal if they do the same, and never if they might not."""

import dataclasses
import functools
import time

import jax.numpy as jnp
import pytest
from jax import vmap

import jaxdecode as jd
from jaxdecode.core.functions import Alike
from tests import tiny
from tests.models.toys import SIZES, batched, make_params

FACTOR = 2.0


def made(text, **names):
    """A function `f` of a cell of its own, with globals of its own unless given."""
    names.setdefault("jnp", jnp)
    exec(text, names)
    return names["f"]


def factory(scale, extra=()):
    return lambda x: x * scale + len(extra)


@dataclasses.dataclass(frozen=True)
class Frozen:
    scale: float
    inner: object = None

    def apply(self, x):
        return x * self.scale


class Mutable:
    scale = 1.0

    def apply(self, x):
        return x * self.scale


def default(x, y=1):
    return x * y


EQUAL = {
    "one function": lambda: batched,
    "a lambda": lambda: lambda x: x * FACTOR,
    "a closure": lambda: factory(2.0, (1, "a")),
    "a closure over a function": lambda: factory(factory(1.0)),
    "a method of an equal frozen dataclass": lambda: Frozen(2.0, (1,)).apply,
    "a partial": lambda: functools.partial(factory(2.0), x=3),
}
OTHER = {
    "another constant": (lambda x: x * 2.0, lambda x: x * 3.0),
    "another closure": (factory(2.0), factory(3.0)),
    "an int for a float": (factory(2.0), factory(2)),
    "minus zero": (factory(0.0), factory(-0.0)),
    "another function closed over": (factory(factory(1.0)), factory(factory(2.0))),
    "another field": (Frozen(2.0).apply, Frozen(3.0).apply),
    "what can change in place": (Mutable().apply, Mutable().apply),
    "a list closed over": (factory([1]), factory([1])),
    "another argument": (
        functools.partial(default, y=1),
        functools.partial(default, y=2),
    ),
    "another default": (default, made("def f(x, y=2):\n    return x * y")),
}


@pytest.mark.parametrize("make", EQUAL.values(), ids=EQUAL)
def test_functions_made_anew_are_equal(make):
    first, second = Alike(make()), Alike(make())
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize("pair", OTHER.values(), ids=OTHER)
def test_functions_that_might_differ_are_not(pair):
    assert Alike(pair[0]) != Alike(pair[1])


def test_a_helper_that_was_changed_in_its_cell_is_seen():
    cells = {"jnp": jnp, "helper": lambda x: x + 1}
    text = "def f(x):\n    return (lambda y: helper(y))(x)"
    first = Alike(made(text, **cells))
    names = cells.copy()
    exec(text, names)
    again = Alike(names["f"])
    exec(text, names)
    assert Alike(names["f"]) == again != first
    names["helper"] = lambda x: x + 2
    exec(text, names)
    assert Alike(names["f"]) != again


def test_a_recursive_function_is_itself():
    def make():
        def f(x, n):
            return x if n == 0 else f(x, n - 1)

        return f

    assert Alike(make()) == Alike(make())


def test_functions_of_libraries_and_many_closures_are_looked_at_once():
    """Each function is looked into once, and those with a name not at all."""

    def layered(depth):
        inner = lambda x: x  # noqa: E731
        for _ in range(depth):
            inner = (lambda f: lambda x: f(x) + f(x) + vmap(f)(x))(inner)
        return inner

    start = time.perf_counter()
    assert Alike(layered(200)) == Alike(layered(200))
    assert Alike(layered(200)) != Alike(layered(199))
    assert time.perf_counter() - start < 2.0


def test_a_lambda_in_every_call_compiles_once():
    def write(scale):
        model = jd.from_logits_function(
            lambda params, tokens: batched(params, tokens) * scale,
            make_params(),
            **SIZES,
        )
        asked = {"sampler": tiny.PLAIN, "max_new_tokens": 2}
        return jd.generate(model, [[1, 2]], 0, **asked)

    write(1.0)
    with jd.testing.count_compiles() as compiles:
        write(1.0)
    assert compiles.count == 0, compiles.names
    with jd.testing.count_compiles() as compiles:
        write(2.0)
    assert compiles.count > 0
