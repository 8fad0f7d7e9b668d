"""What the tests of decoding share."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_to_compile():
    """Many small programs that run for milliseconds: compiling is what takes time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
