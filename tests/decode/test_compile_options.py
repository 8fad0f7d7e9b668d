"""What a platform tells its compiler reaches the outermost programs, and only these."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core import platform
from jaxdecode.core.platform import CPU
from jaxdecode.decode.programs import compiled
from jaxdecode.native import pack

KNOWN = ("xla_cpu_use_fusion_emitters", True)
UNKNOWN = ("xla_cpu_no_such_option", "true")


@pytest.fixture
def options(monkeypatch):
    told = dataclasses.replace(CPU, compile_options=(UNKNOWN, KNOWN))
    monkeypatch.setattr(platform, "backend", lambda: told)
    return dict([KNOWN])


@pytest.fixture
def doubled():
    return compiled()(lambda model, x: model["weight"] * x)


MODEL = {"weight": jnp.float32(2.0)}


def told(program):
    """The forms of a program that are compiled with options."""
    return list(program._told.values())


def test_an_option_that_the_compiler_does_not_know_is_left_out(options):
    assert platform.known_options() == options


def test_an_outermost_program_is_compiled_with_the_options(options, doubled):
    assert doubled(MODEL, jnp.float32(3.0)) == 6.0
    assert [jitted._cache_size() for jitted in told(doubled)] == [1]
    assert doubled._program._cache_size() == 0


def test_inside_another_program_there_are_no_options(options, doubled):
    # JAX refuses options of a jit inside a jit, even where all arguments are known.
    assert jax.jit(lambda x: doubled(MODEL, x))(jnp.float32(3.0)) == 6.0
    assert jax.jit(lambda: doubled(MODEL, jnp.float32(3.0)))() == 6.0
    assert not told(doubled)


def test_a_cpu_is_told_nothing_of_models_that_xla_multiplies(doubled):
    assert platform.known_options() == {}
    doubled(MODEL, jnp.float32(3.0))
    assert not told(doubled)


def test_a_cpu_is_told_to_spare_the_emitters_where_kernels_multiply(doubled):
    assert platform.known_options(kernels=True) == {KNOWN[0]: False}
    model = MODEL | {"matrix": pack(np.ones((32, 4), np.float32))}
    assert doubled(model, jnp.float32(3.0)) == 6.0
    assert [jitted._cache_size() for jitted in told(doubled)] == [1]
    doubled(MODEL, jnp.float32(3.0))
    assert doubled._program._cache_size() == 1
