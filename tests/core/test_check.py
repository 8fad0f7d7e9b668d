"""Host checks read numbers; a value known only by shape and type passes, cast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core import check
from jaxdecode.core.protocol import ExposesLayers, ReadsPrompts, SharesPrompts
from tests import tiny


def test_a_value_known_only_by_shape_and_type_counts_as_traced():
    assert check.is_traced(jax.ShapeDtypeStruct((3,), jnp.float32))
    assert not check.is_traced(np.ones(3, np.float32))
    assert not check.is_traced(jnp.ones(3))
    inside = []
    jax.jit(lambda x: inside.append(check.is_traced(x)))(jnp.ones(3))
    assert inside == [True]


def test_a_value_known_only_by_shape_and_type_is_cast_and_not_checked():
    abstract = jax.ShapeDtypeStruct((3,), jnp.bfloat16)
    found = check.real("TopP", "p", abstract, low=0.0, high=1.0)
    assert found == jax.ShapeDtypeStruct((3,), jnp.float32)
    found = check.whole("TopK", "k", abstract, low=0)
    assert found == jax.ShapeDtypeStruct((3,), jnp.int32)
    assert check.flag("f", "keep", abstract) is abstract
    with pytest.raises(ValueError, match=r"TopP: `p` must be in \[0, 1\], got 2"):
        check.real("TopP", "p", 2, low=0.0, high=1.0)


def test_a_model_is_asked_for_its_optional_abilities_by_protocol():
    llama = tiny.llama()
    assert isinstance(llama, ExposesLayers)
    assert isinstance(llama, SharesPrompts)
    assert not isinstance(llama, ReadsPrompts)
    for ability in (ExposesLayers, SharesPrompts, ReadsPrompts):
        assert not isinstance(tiny.bag(), ability)
