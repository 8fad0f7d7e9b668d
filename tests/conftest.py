"""What every test runs under: strict promotion, so that a silent cast is an error.

The suite compiles some thousand small programs that run for milliseconds, so XLA's
expensive passes are off. Tests of the contracts themselves, of compiled programs and of
the real model are marked `optimized` or `model` and run what a user runs.
"""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)


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
