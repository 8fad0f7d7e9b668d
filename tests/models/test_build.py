"""Building a model from named weights is strict; the result is a plain pytree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdecode as jd
from jaxdecode.core.platform import CPU
from jaxdecode.core.protocol import Model
from jaxdecode.models import (
    GPT2,
    Frozen,
    Llama,
    build,
    freeze,
    parameter_shapes,
    random_params,
)
from tests.models.model_cases import CASES, PLAIN, model_of, read, tokens_of, varied

PARAMS = random_params(PLAIN)
Q = "layers.0.attention.q.weight"


def without(name):
    return {n: value for n, value in PARAMS.items() if n != name}


def test_parameter_names_and_shapes_are_outputs_by_inputs():
    shapes = parameter_shapes(varied(num_layers=1, qkv_bias=True, qk_norm=True))
    assert shapes == {
        "embedding.weight": (37, 24),
        "layers.0.attention_norm.weight": (24,),
        "layers.0.attention.q.weight": (32, 24),
        "layers.0.attention.q.bias": (32,),
        "layers.0.attention.k.weight": (16, 24),
        "layers.0.attention.k.bias": (16,),
        "layers.0.attention.v.weight": (16, 24),
        "layers.0.attention.v.bias": (16,),
        "layers.0.attention.o.weight": (24, 32),
        "layers.0.attention.q_norm.weight": (8,),
        "layers.0.attention.k_norm.weight": (8,),
        "layers.0.mlp_norm.weight": (24,),
        "layers.0.mlp.gate.weight": (29, 24),
        "layers.0.mlp.up.weight": (29, 24),
        "layers.0.mlp.down.weight": (24, 29),
        "norm.weight": (24,),
        "head.weight": (37, 24),
    }


def test_layers_beyond_the_tenth_keep_their_weights():
    config = varied(num_layers=11)
    params = random_params(config)
    built = build(config, params).params
    assert set(built) == set(params)
    for name, value in params.items():
        np.testing.assert_array_equal(built[name], value)


def test_a_missing_tensor_is_named():
    with pytest.raises(ValueError, match=f"must hold '{Q}': the model needs it"):
        build(PLAIN, without(Q))


def test_an_unknown_tensor_is_named():
    with pytest.raises(ValueError, match="must not hold 'rotary': the model does not"):
        build(PLAIN, PARAMS | {"rotary": np.ones(3, np.float32)})


def test_a_tensor_of_the_wrong_shape_is_named():
    wrong = PARAMS | {Q: PARAMS[Q].T}
    with pytest.raises(ValueError, match=rf"{Q}'\]` must have shape \(32, 24\), got"):
        build(PLAIN, wrong)


def test_a_tensor_of_integers_is_refused():
    wrong = PARAMS | {Q: PARAMS[Q].astype(np.int8)}
    with pytest.raises(TypeError, match="must be floating-point numbers, got int8"):
        build(PLAIN, wrong)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="`dtype` must be one of 'float32', 'bfl"):
        build(PLAIN, PARAMS, "float16")


def test_a_model_keeps_its_weights_when_the_callers_arrays_change():
    mine = {name: value.copy() for name, value in PARAMS.items()}
    model = build(PLAIN, mine)
    mine[Q][:] = 0.0
    np.testing.assert_array_equal(model.params[Q], PARAMS[Q])


@pytest.mark.parametrize("kind", [np.float64, np.float16, jnp.bfloat16, jnp.asarray])
def test_weights_of_any_float_type_are_taken(kind):
    given = {n: v.astype(jnp.bfloat16).astype(np.float32) for n, v in PARAMS.items()}
    cast = kind if kind is jnp.asarray else lambda v: v.astype(kind)
    built = build(PLAIN, {n: cast(v) for n, v in given.items()}, "bfloat16").params
    np.testing.assert_allclose(built[Q].astype(np.float32), given[Q], rtol=1e-2)


def test_bfloat16_models_keep_norms_and_biases_in_float32():
    params = model_of(CASES["all_biases"], "bfloat16").params
    narrow = {name for name, leaf in params.items() if leaf.dtype == jnp.bfloat16}
    assert narrow == {n for n in params if n.endswith("weight") and "norm" not in n}


def test_the_same_seed_gives_the_same_random_weights():
    again, other = random_params(PLAIN, 0), random_params(PLAIN, 1)
    assert all(np.array_equal(PARAMS[name], again[name]) for name in PARAMS)
    assert not np.array_equal(PARAMS[Q], other[Q])


def test_a_built_model_satisfies_the_protocol():
    assert isinstance(model_of(PLAIN), Model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_leaf_of_a_cache_has_the_row_axis_first(dtype):
    cache = model_of(PLAIN, dtype).init_cache(3, 11)
    assert {leaf.shape for leaf in jax.tree.leaves(cache)} == {(3, 2, 11, 8)}


@pytest.mark.parametrize("length", [0, 18])
def test_a_cache_longer_than_the_model_can_hold_is_refused(length):
    with pytest.raises(ValueError, match=r"`length` must be in \[1, 17\].*got"):
        model_of(PLAIN).init_cache(1, length)


def test_other_weights_and_equal_configs_reuse_the_compiled_program():
    traces = []

    @jax.jit
    def first_logit(model, tokens, positions, cache):
        traces.append(1)
        return model(tokens, positions, cache)[0][0, 0, 0]

    tokens = positions = jnp.zeros((1, 1), jnp.int32)
    values = []
    for seed in range(3):
        model = model_of(varied(), seed=seed)
        cache = model.init_cache(1, 17)
        values.append(float(first_logit(model, tokens, positions, cache)))
    assert len(traces) == 1
    assert len(set(values)) == 3


def test_a_pytree_round_trip_keeps_the_model():
    model = model_of(PLAIN)
    leaves, treedef = jax.tree.flatten(model)
    assert jax.tree.unflatten(treedef, leaves) == model
    assert len(leaves) == len(PARAMS)


@pytest.mark.parametrize(
    ("case", "module"), [("grouped", Llama), ("gpt2", GPT2)], ids=str
)
def test_a_frozen_module_computes_what_the_module_does(case, module):
    config = dataclasses.replace(CASES[case], num_layers=1)
    original = module(config, rngs=nnx.Rngs(0))
    rows = tokens_of(5, 5)
    (frozen, _), (plain, _) = read(freeze(original), rows), read(original, rows)
    np.testing.assert_allclose(frozen, plain, atol=1e-6)


class Counter(nnx.Module):
    """A model that changes itself whenever it is called."""

    vocab_size, max_length = 37, 64

    def __init__(self):
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def init_cache(self, rows, length):
        return jnp.zeros((rows, length), jnp.int32)

    def __call__(self, tokens, positions, cache, *, at=None):
        self.calls.value = self.calls[...] + 1
        logits = jax.nn.one_hot((tokens + self.calls[...]) % 37, 37)
        if at is not None:
            logits = jnp.take_along_axis(logits, at[:, None, None], axis=1)[:, 0]
        return logits, cache


def test_a_frozen_module_that_changes_itself_begins_anew_at_each_call():
    greedy = jd.joint(temperature=0)
    found = jd.generate(freeze(Counter()), [[3]], 0, sampler=greedy, max_new_tokens=5)
    assert found.tokens.tolist() == [[4, 5, 6, 7, 8]]


def test_a_module_of_ours_is_put_together_once():
    model = model_of(PLAIN)
    assert model._module is model._module
    assert model.on(CPU)._module is not model._module
    assert model.on(CPU)._module.platform == CPU
    assert model._module.platform is None


def test_thaw_gives_the_module_back_with_its_config_and_weights():
    module = model_of(PLAIN).thaw()
    assert module.config == PLAIN
    np.testing.assert_array_equal(module.layers[0].attention.q.weight[...], PARAMS[Q])


def test_a_models_repr_is_one_short_line():
    assert repr(model_of(PLAIN)) == f"Frozen(Llama, 21 arrays, {10680:,} parameters)"


def test_definitions_of_different_models_differ():
    kinds = [PLAIN, varied(norm_eps=1e-6), varied(num_kv_heads=1), CASES["gpt2"]]
    trees = {jax.tree.structure(model_of(config)) for config in kinds}
    trees.add(jax.tree.structure(model_of(PLAIN, "bfloat16")))
    assert len(trees) == 5
    assert isinstance(model_of(PLAIN), Frozen)


def test_every_array_goes_through_the_hook_that_places_it():
    device, placed = jax.devices()[0], []

    def put(name, array):
        placed.append(name)
        return jax.device_put(array, device)

    model = build(PLAIN, random_params(PLAIN), put=put)
    assert sorted(placed) == sorted(parameter_shapes(PLAIN))
    plain = build(PLAIN, random_params(PLAIN))
    assert jax.tree.structure(model) == jax.tree.structure(plain)
