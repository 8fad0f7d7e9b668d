"""An identity tells values apart, is the same in every process, and never guesses."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core.identity import NoIdentity, identity
from jaxdecode.core.platform import CPU, GPU
from jaxdecode.models import ModelConfig
from jaxdecode.transforms import TopK

APART = [
    None,
    True,
    1,
    1.0,
    -0.0,
    0.0,
    "1",
    b"1",
    (1,),
    [1],
    ((1,), 2),
    (1, (2,)),
    ("ab", "c"),
    ("a", "bc"),
    {"a": 1},
    {"a": 2},
    {1, 2},
    np.dtype(np.float32),
    np.dtype(np.int32),
    jax.random.key(0).dtype,
    jax.tree.structure((1, 2)),
    jax.tree.structure([1, 2]),
    jax.tree.structure((1, None)),
    jax.tree.structure(TopK(3)),
    CPU,
    GPU,
    dataclasses.replace(CPU, windows=(64,)),
    TopK,
    jax.nn.silu,
    jnp.ones,
]
HERE = """
import sys
import jax
from jaxdecode.core.identity import identity
from jaxdecode.core.platform import CPU
from jaxdecode.models import SHAPES
from jaxdecode.models.definition import Plan
from jaxdecode.models.families.catalog import family_named
from jaxdecode.transforms import TopK
plan = Plan(family_named("llama").module, SHAPES["llama-3.2-1b"], "float32")
parts = CPU, {"b": 1, "a": {"x", "y", "z"}}, jax.tree.structure(TopK(3)), plan
print(identity(parts).hex())
assert "flax" not in sys.modules
"""


def test_values_that_differ_have_other_identities():
    found = [identity(value) for value in APART]
    assert len(set(found)) == len(APART)
    assert found == [identity(value) for value in APART]


def test_every_field_of_a_config_counts():
    config = ModelConfig(
        family="llama",
        vocab_size=37,
        max_length=32,
        width=16,
        mlp_width=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
    )
    others = [
        dataclasses.replace(config, vocab_size=38),
        dataclasses.replace(config, rope_theta=500.0),
        dataclasses.replace(config, norm_eps=1e-6),
    ]
    assert len({identity(each) for each in [config, *others]}) == 4


def test_it_is_the_same_in_another_process():
    command = [sys.executable, "-c", HERE]
    runs = [
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""


class Changing:
    """A class whose objects do not say what they are."""


@dataclasses.dataclass(frozen=True)
class Mine:
    """A dataclass of no known package: its methods may change."""

    size: int = 1


@pytest.mark.parametrize(
    "value",
    [
        Changing(),
        Mine(),
        lambda x: x,
        test_values_that_differ_have_other_identities,
        Mine,
    ],
)
def test_what_may_change_unseen_is_refused(value):
    with pytest.raises(NoIdentity):
        identity((1, value))
