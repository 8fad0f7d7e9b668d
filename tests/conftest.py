"""What every test runs under: strict promotion, so that a silent cast is an error.

The suite compiles some thousand small programs that run for milliseconds, so XLA's
expensive passes are off. Tests of the contracts themselves, of compiled programs and of
the real model are marked `optimized` or `model` and run what a user runs.
"""

import jax
import pytest
from jax._src import compiler

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)


def _compile_options(*args, _original=compiler.get_compile_options, **options):
    """XLA's options; without its fusion emitters a program compiles in half the time."""
    if jax.config.read("jax_disable_most_optimizations"):
        overrides = options.get("env_options_overrides") or {}
        options["env_options_overrides"] = {
            "xla_cpu_use_fusion_emitters": False,
            **overrides,
        }
    return _original(*args, **options)


compiler.get_compile_options = _compile_options


@pytest.fixture(autouse=True)
def _compile_as_users_do(request):
    marks = ("optimized", "model")
    if not any(request.node.get_closest_marker(mark) for mark in marks):
        yield
        return
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Free what a file compiled: a worker would else hold 6 GB at the end."""
    yield
    jax.clear_caches()
