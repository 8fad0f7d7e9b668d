"""Matrices that read the same rows are one on accelerators; nothing else shows."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.platform import CPU, GPU, TPU
from jaxdecode.decode.generation import generate_for
from jaxdecode.models import build, llama, outline, random_params
from jaxdecode.models.joined import GROUPS, Joined, Part, join, part
from jaxdecode.models.layers import Linear, project
from tests.models.model_cases import CASES, PLAIN, read, tokens_of, varied

BUILDING = sys.modules[build.__module__]
ROWS = tokens_of(3, 9)
KINDS = ["grouped", "all_biases", "qwen3", "gpt2"]
EXACT = {"rtol": 1e-5, "atol": 1e-5}


def built(config, dtype="float32", *, joins, monkeypatch):
    """Return a model as it is built where matrices are joined, or where not."""
    platform = GPU if joins else CPU
    monkeypatch.setattr(BUILDING, "current_platform", lambda: platform)
    return build(config, random_params(config), dtype, native=False)


def count_products(model):
    cache = model.init_cache(1, 4)
    tokens = jnp.zeros((1, 2), jnp.int32)
    return str(jax.make_jaxpr(model)(tokens, tokens, cache)).count("dot_general[")


@pytest.mark.parametrize("name", KINDS)
def test_a_joined_model_says_what_the_plain_one_says(name, monkeypatch):
    config = CASES[name]
    plain = built(config, joins=False, monkeypatch=monkeypatch)
    joined = built(config, joins=True, monkeypatch=monkeypatch)
    expected, cache = read(plain, ROWS)
    logits, joined_cache = read(joined, ROWS)
    np.testing.assert_allclose(logits, expected, **EXACT)
    for a, b in zip(jax.tree.leaves(joined_cache), jax.tree.leaves(cache), strict=True):
        np.testing.assert_allclose(a, b, **EXACT)


@pytest.mark.parametrize("name", ["grouped", "all_biases"])
def test_many_rows_are_gated_in_halves_of_their_columns(name, monkeypatch):
    joined = built(CASES[name], joins=True, monkeypatch=monkeypatch)
    whole, expected = count_products(joined), read(joined, ROWS)[0]
    monkeypatch.setattr(llama, "ROWS_WHOLE", 1)
    jax.clear_caches()
    # Two products with gate and up, and two with down, in place of one each.
    assert count_products(joined) == whole + 2 * CASES[name].num_layers
    np.testing.assert_allclose(read(joined, ROWS)[0], expected, **EXACT)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_joined_matrices_of_any_type_give_the_products_of_each(dtype, monkeypatch):
    plain = built(PLAIN, dtype, joins=False, monkeypatch=monkeypatch)
    joined = built(PLAIN, dtype, joins=True, monkeypatch=monkeypatch)
    np.testing.assert_allclose(read(joined, ROWS)[0], read(plain, ROWS)[0], **EXACT)


def test_a_layer_makes_four_products_with_weights_in_place_of_seven(monkeypatch):
    plain = built(PLAIN, joins=False, monkeypatch=monkeypatch)
    joined = built(PLAIN, joins=True, monkeypatch=monkeypatch)
    fewer = count_products(plain) - count_products(joined)
    assert fewer == 3 * PLAIN.num_layers


def test_parameters_keep_their_names_and_values(monkeypatch):
    joined = built(PLAIN, joins=True, monkeypatch=monkeypatch)
    params = random_params(PLAIN)
    assert set(joined.params) == set(params)
    for name, value in joined.params.items():
        np.testing.assert_array_equal(value, params[name])
    kinds = [leaf for leaf in joined.leaves if isinstance(leaf, Joined)]
    assert len(kinds) == 2 * PLAIN.num_layers
    assert str(joined) == str(built(PLAIN, joins=False, monkeypatch=monkeypatch))


def test_an_outline_for_an_accelerator_has_the_arrays_of_a_model_built_there(
    monkeypatch,
):
    for platform in (GPU, TPU, CPU):
        real = built(PLAIN, joins=platform.joins, monkeypatch=monkeypatch)
        there = outline(PLAIN, platform=platform)
        shapes = [(x.shape, x.dtype) for x in jax.tree.leaves(there)]
        assert shapes == [(x.shape, x.dtype) for x in jax.tree.leaves(real)]
        assert there.platform == platform


def test_slopes_reach_every_matrix_of_a_joined_one(monkeypatch):
    plain = built(PLAIN, joins=False, monkeypatch=monkeypatch)
    joined = built(PLAIN, joins=True, monkeypatch=monkeypatch)

    @jax.jit
    @jax.grad
    def slopes(model):
        tokens = jnp.asarray([ROWS[1]], jnp.int32)
        positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
        return jnp.sum(jnp.sin(model(tokens, positions, model.init_cache(1, 17))[0]))

    expected, found = slopes(plain).params, slopes(joined).params
    for name, slope in expected.items():
        np.testing.assert_allclose(found[name], slope, rtol=1e-3, atol=1e-3)
        assert np.any(slope)


def test_a_joined_model_is_cut_matrix_by_matrix_on_a_mesh(monkeypatch):
    joined = built(PLAIN, joins=True, monkeypatch=monkeypatch)
    mesh = jax.make_mesh((1, 1), ("data", "tensor"))
    cut = jd.shard(joined, mesh, data="data", tensor="tensor")
    assert not any(isinstance(leaf, Joined) for leaf in cut.leaves)
    for name, value in random_params(PLAIN).items():
        np.testing.assert_array_equal(cut.params[name], value)
    abstract = jd.shard(outline(PLAIN, platform=GPU), mesh, tensor="tensor")
    assert [x.shape for x in abstract.leaves] == [x.shape for x in cut.leaves]


def test_a_model_that_places_its_arrays_itself_keeps_them_apart(monkeypatch):
    monkeypatch.setattr(BUILDING, "current_platform", lambda: GPU)
    kept = {}
    model = build(
        PLAIN,
        random_params(PLAIN),
        native=False,
        put=lambda name, array: kept.setdefault(name, array),
    )
    assert all(a is b for a, b in zip(model.leaves, kept.values(), strict=True))


def test_some_of_the_parts_or_another_order_are_multiplied_one_by_one():
    names = ["attention.q.weight", "attention.k.weight", "attention.v.weight"]
    generator = np.random.default_rng(0)
    matrices = [
        jnp.asarray(generator.normal(size=(n, 5)), jnp.float32) for n in (4, 2, 2)
    ]
    parts = part(join(names, matrices))
    assert all(isinstance(x, Part) for x in parts)
    maps = []
    for one in parts:
        linear = Linear(5, one.shape[0], bias=False, dtype="float32", rngs=None)
        linear.weight.set_value(one)
        maps.append(linear)
    x = jnp.asarray(generator.normal(size=(3, 5)), jnp.float32)
    for chosen in ([0, 1, 2], [1], [0, 2], [2, 1, 0]):
        found = project(x, None, *(maps[i] for i in chosen))
        for y, i in zip(found, chosen, strict=True):
            np.testing.assert_allclose(y, x @ matrices[i].T, **EXACT)


def test_groups_that_lack_a_matrix_stay_apart():
    names = ["0.attention.q.weight", "0.attention.k.weight", "1.mlp.up.weight"]
    leaves = [jnp.zeros((2, 3))] * 3
    assert all(a is b for a, b in zip(join(names, leaves), leaves, strict=True))
    others = [f"0.my{name}.weight" for group in GROUPS for name in group]
    leaves = [jnp.zeros((2, 3))] * len(others)
    assert all(a is b for a, b in zip(join(others, leaves), leaves, strict=True))


@pytest.mark.parametrize(
    "platform",
    [GPU, pytest.param(TPU, marks=pytest.mark.slow)],
    ids=lambda platform: platform.kind,
)
def test_a_joined_model_writes_the_tokens_of_the_plain_one(platform, monkeypatch):
    config = varied(max_length=32, num_layers=1)
    plain = built(config, joins=False, monkeypatch=monkeypatch)
    joined = built(config, joins=True, monkeypatch=monkeypatch)
    options = {"sampler": jd.joint(top_k=9, top_p=0.9), "max_new_tokens": 8}
    expected = jd.generate(plain, ROWS, 3, **options)
    found = generate_for(platform, joined, ROWS, 3, **options)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
