"""A run needs little more than its weights and its cache."""

import jax
import pytest

import jaxdecode as jd
from jaxdecode.decode import trace
from jaxdecode.models import ModelConfig, build, random_params

pytestmark = pytest.mark.reads_program

ROWS, COLUMNS = 3, 256
SAMPLER = {"top_k": 50, "top_p": 0.9, "temperature": 0.8}
# So small a vocabulary and so many layers that weights and cache decide, half and half.
SIZES = {
    "vocab_size": 61,
    "max_length": COLUMNS,
    "width": 128,
    "mlp_width": 256,
    "num_layers": 12,
    "num_heads": 2,
    "num_kv_heads": 1,
}


# An int8 model has the cache of a bfloat16 one.
@pytest.mark.parametrize(
    "dtype",
    [
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("float32", "bfloat16")),
        "int8",
    ],
)
def test_a_run_holds_at_most_a_quarter_more_than_weights_and_cache(dtype):
    config = ModelConfig(family="llama", **SIZES)
    model = build(config, random_params(config), dtype)
    prompts = [[1] * 16, [2] * 5, [3]]
    options = {"sampler": jd.joint(**SAMPLER), "max_new_tokens": COLUMNS - 16}
    program = trace(model, prompts, 0, **options).lower().compile()
    need = program.memory_analysis()
    peak = (
        need.argument_size_in_bytes
        + need.temp_size_in_bytes
        + need.output_size_in_bytes
        - need.alias_size_in_bytes
    )
    cache = jax.eval_shape(lambda: model.init_cache(ROWS, COLUMNS))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(model))
    assert peak <= 1.25 * (weights + held)
