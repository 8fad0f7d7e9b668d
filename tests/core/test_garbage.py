"""The collector of garbage rests while it is told to, and is left as it was."""

import gc

import jax
import jax.numpy as jnp
import pytest

from jaxdecode.core.garbage import not_collected
from jaxdecode.decode.programs import compiled


@pytest.fixture(autouse=True)
def _collector():
    yield
    gc.enable()


def test_it_is_left_as_it_was_also_after_an_error():
    for before in (gc.enable, gc.disable):
        before()
        was = gc.isenabled()
        with not_collected():
            assert not gc.isenabled()
        assert gc.isenabled() == was
        with pytest.raises(KeyError), not_collected():
            raise KeyError
        assert gc.isenabled() == was


def test_it_rests_while_a_program_is_traced_and_not_while_it_runs():
    found = []

    @compiled()
    def function(model, x):
        found.append(gc.isenabled())
        jax.debug.callback(lambda: found.append(gc.isenabled()))
        return x

    jax.block_until_ready(function({}, jnp.zeros(3)))
    jax.effects_barrier()
    assert found == [False, True]
