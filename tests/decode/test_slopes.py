"""Slopes of a bfloat16 model: through `score`, `generate(loop="scan")` and wrappers.

On CPU its cache holds words, which have none; the slopes are those of the same program
with a cache of numbers.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.platform import CPU, GPU
from jaxdecode.decode import trace
from jaxdecode.models import build, random_params
from jaxdecode.native import why_unavailable
from tests import tiny
from tests.models.model_cases import varied

COLUMNS = 48
# Heads that the kernels can take, and room for a negative prompt.
CONFIG = varied(head_dim=32, tied_output=True, max_length=COLUMNS)
PROMPTS, TEXTS = [[1, 2, 3], [4]], [[5, 6, 7], [8, 9, 5]]


@functools.cache
def model(dtype, native=False, layers=1):
    config = dataclasses.replace(CONFIG, num_layers=layers)
    params = {n: np.asarray(v) for n, v in random_params(config, seed=3).items()}
    # The same numbers in both types, so that only products and cache are rounded.
    params = {n: v.astype(jnp.bfloat16).astype(np.float32) for n, v in params.items()}
    return build(config, params, dtype, native=native)


def loss(model, **options):
    found = jd.score(model, PROMPTS, TEXTS, **options)
    return -jnp.sum(found.model_logprobs) - jnp.sum(found.sampling_logprobs)


def flat(tree):
    leaves = [np.asarray(x, np.float64).ravel() for x in tree.params.values()]
    return np.concatenate(leaves)


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@functools.partial(jax.jit, static_argnames="chunk")
def loss_and_slopes(model, chunk=None):
    return jax.value_and_grad(functools.partial(loss, chunk=chunk))(model)


def slopes(dtype, chunk=None):
    return loss_and_slopes(model(dtype), chunk)[1]


@pytest.mark.parametrize("chunk", [None, pytest.param(1, marks=pytest.mark.slow)])
def test_the_slope_of_a_bfloat16_models_score_points_where_float32s_does(chunk):
    exact, rounded = flat(slopes("float32")), flat(slopes("bfloat16", chunk))
    assert cosine(exact, rounded) > 0.99
    assert 0.9 < np.linalg.norm(rounded) / np.linalg.norm(exact) < 1.1


def test_every_array_of_a_bfloat16_model_has_a_slope_like_float32s():
    exact, rounded = slopes("float32").params, slopes("bfloat16").params
    for name, slope in exact.items():
        other = np.asarray(rounded[name], np.float64).ravel()
        assert cosine(np.asarray(slope, np.float64).ravel(), other) > 0.97, name


def test_the_slope_is_that_of_finite_differences_in_float32():
    one = model("float32")
    generator = np.random.default_rng(0)
    direction = [generator.standard_normal(x.shape, np.float32) for x in one.leaves]

    def along(step):
        leaves = [x + step * d for x, d in zip(one.leaves, direction, strict=True)]
        moved = jax.tree.unflatten(jax.tree.structure(one), leaves)
        return float(loss_and_slopes(moved)[0])

    measured = (along(2e-3) - along(-2e-3)) / 4e-3
    found = slopes("bfloat16").leaves
    total = sum(
        float(np.vdot(np.asarray(s, np.float64), d))
        for s, d in zip(found, direction, strict=True)
    )
    assert total == pytest.approx(measured, rel=0.05)


@pytest.mark.skipif(why_unavailable() != "", reason="no kernels")
def test_norms_of_a_model_in_the_kernels_layout_have_the_same_slopes():
    def of_norm(weight, one):
        index = one.definition.names.index("layers.0.attention_norm.weight")
        leaves = (*one.leaves[:index], weight, *one.leaves[index + 1 :])
        return loss(type(one)(leaves=leaves, definition=one.definition))

    plain = model("float32", layers=2)
    weight = plain.params["layers.0.attention_norm.weight"]
    slope = jax.jit(jax.grad(of_norm))
    exact = slope(weight, plain)
    got = slope(weight, model("bfloat16", native=True, layers=2))
    assert cosine(np.asarray(exact), np.asarray(got)) > 0.99


def test_a_generation_is_the_same_with_and_without_a_slope():
    def run(table, base):
        index = base.definition.names.index("embedding.weight")
        leaves = (*base.leaves[:index], table, *base.leaves[index + 1 :])
        one = type(base)(leaves=leaves, definition=base.definition)
        out = jd.generate(one, PROMPTS, 0, loop="scan", **asked)
        return jnp.sum(out.model_logprobs), out

    asked = {"sampler": tiny.PLAIN, "max_new_tokens": 4}
    base = model("bfloat16")
    table = base.params["embedding.weight"]
    plain = jd.generate(base, PROMPTS, 0, **asked)
    slope, out = jax.jit(jax.grad(run, has_aux=True))(table, base)
    assert out.tokens.tolist() == plain.tokens.tolist()
    assert np.abs(np.asarray(slope, np.float32)).max() > 0


def test_a_wrapped_bfloat16_model_has_a_slope():
    def total(one):
        return loss(jd.guided(one, 1.5, [[7]]))

    assert np.linalg.norm(flat(jax.jit(jax.grad(total))(model("bfloat16")))) > 0


@pytest.mark.parametrize("platform", [CPU, GPU], ids=lambda p: p.kind)
def test_the_platform_of_a_program_decides_how_bfloat16_is_kept(platform):
    jaxpr = trace(
        model("bfloat16"), PROMPTS, 0, max_new_tokens=4, platform=platform
    ).jaxpr
    text = str(jaxpr)
    # 16 columns for the prompts and 16 for new tokens.
    cache = f"[2,{CONFIG.kv_heads},32,{CONFIG.head_size}]"
    assert (f"u16{cache}" in text) == platform.words
    assert (f"bf16{cache}" in text) or platform.words
