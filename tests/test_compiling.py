"""What the marks of the suite mean for a program, and that none gets another's."""

import jax
import jax.numpy as jnp
import pytest

from tests import tiny

FACTS = ("temp_size_in_bytes", "alias_size_in_bytes", "output_size_in_bytes")


def compiled(model, factor=2.0):
    """Compile anew, as the test's marks say."""

    def step(model, cache, tokens):
        logits, cache = model(tokens, jnp.zeros_like(tokens), cache)
        return jnp.tanh(logits * factor) + 1, cache

    cache, tokens = model.init_cache(3, 11), jnp.zeros((3, 1), jnp.int32)
    return jax.jit(step, donate_argnums=1).lower(model, cache, tokens).compile()


def facts(program):
    """The instructions but for the lines of Python they come from, and the memory."""
    lines = [line.split(", metadata=")[0] for line in program.as_text().splitlines()]
    lines = [line for line in lines if " = " in line or line.endswith("{")]
    memory = program.memory_analysis()
    return lines, [getattr(memory, name) for name in FACTS]


@pytest.fixture(scope="module")
def found():
    return {}


@pytest.mark.optimized
def test_a_user_has_this_program(found):
    found["optimized"] = facts(compiled(tiny.llama()))
    assert not jax.config.read("jax_disable_most_optimizations")


@pytest.mark.reads_program
def test_a_program_that_is_read_is_that_of_a_user(found):
    assert jax.config.read("jax_disable_most_optimizations")
    assert facts(compiled(tiny.llama())) == found["optimized"]


def test_without_a_mark_it_is_another(found):
    assert facts(compiled(tiny.llama()))[0] != found["optimized"][0]


def test_the_same_program_is_compiled_once_and_another_is_not_mistaken_for_it():
    def runs(factor):
        program = jax.jit(lambda x: x * factor).lower(jnp.float32(3)).compile()
        return program.runtime_executable(), float(program(jnp.float32(3)))

    (first, six), (again, also_six), (other, nine) = runs(2), runs(2), runs(3)
    assert (six, also_six, nine) == (6, 6, 9)
    assert first is again
    assert other is not first
