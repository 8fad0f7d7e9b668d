"""What a platform tells its compiler reaches the outermost programs, and only these."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxdecode.core import platform
from jaxdecode.core.platform import CPU
from jaxdecode.decode.programs import compiled

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


def test_an_option_that_the_compiler_does_not_know_is_left_out(options):
    assert platform.known_options() == options


def test_an_outermost_program_is_compiled_with_the_options(options, doubled):
    assert doubled(MODEL, jnp.float32(3.0)) == 6.0
    assert doubled._with_options._cache_size() == 1
    assert doubled._program._cache_size() == 0


def test_inside_another_program_there_are_no_options(options, doubled):
    # JAX refuses options of a jit inside a jit, even where all arguments are known.
    assert jax.jit(lambda x: doubled(MODEL, x))(jnp.float32(3.0)) == 6.0
    assert jax.jit(lambda: doubled(MODEL, jnp.float32(3.0)))() == 6.0
    assert "_with_options" not in vars(doubled)


def test_a_cpu_is_told_nothing(doubled):
    assert platform.known_options() == {}
    doubled(MODEL, jnp.float32(3.0))
    assert "_with_options" not in vars(doubled)
