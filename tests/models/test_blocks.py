"""A loop over blocks that are alike: the same bits as blocks written out."""

import dataclasses
from unittest import mock

import jax
import numpy as np
import pytest

from jaxdecode.cache import KVCache, StackedCache
from jaxdecode.models import ModelConfig, blocks, build, random_params
from jaxdecode.native import is_available

pytestmark = pytest.mark.skipif(
    not is_available(), reason="blocks are looped over where the kernels are"
)

SIZES = ModelConfig(
    vocab_size=37,
    max_length=17,
    width=24,
    mlp_width=29,
    num_layers=3,
    num_heads=2,
    num_kv_heads=1,
    head_dim=32,
)
GPT2 = {"family": "gpt2", "activation": "gelu_new", "num_kv_heads": 2}
ALTERNATING = {
    "num_layers": 5,
    "sliding_window": 3,
    "sliding_layers": (0, 2, 4),
    "sliding_rope_theta": 7.0,
}
KINDS = {  # changes, and how many blocks a compiled program then holds
    "alike": ({}, 1),
    "biases": ({"qkv_bias": True, "mlp_bias": True, "qk_norm": True}, 1),
    "alternating windows": (ALTERNATING, 3),  # two in the loop, the fifth behind it
    "gpt2": (GPT2, 1),
    "all different": ({**GPT2, "scale_by_layer": True}, 3),
}
LOOPED = [kind for kind in KINDS if kind != "all different"]  # which has no loop
SOON = {("alike", "int8")}
POSITIONS = np.tile(np.arange(6, dtype=np.int32), (2, 1))
TOKENS = np.asarray([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]], np.int32)


def model_of(kind, dtype="float32", **changes):
    config = dataclasses.replace(SIZES, **KINDS[kind][0], **changes)
    return build(config, random_params(config), dtype)


def read(model):
    """Logits of a prompt of four tokens and of two more, and the cache behind them."""

    @jax.jit
    def step(model, tokens, positions, cache):
        return model(tokens, positions, cache)

    cache, found = model.init_cache(2, 8), []
    for first, last in ((0, 4), (4, 5), (5, 6)):  # two programs: the last two share one
        part = TOKENS[:, first:last], POSITIONS[:, first:last]
        logits, cache = step(model, *part, cache)
        found.append(logits)
    return np.concatenate(found, axis=1), cache


def with_dtypes():
    """Kinds with a loop; a loop over pairs, and how int8 is chosen from, soon."""
    for kind in LOOPED:
        for dtype in ("float32", "bfloat16", "int8"):
            if (kind, dtype) == ("gpt2", "int8"):
                continue  # int8 is for the llama family
            marks = [] if (kind, dtype) in SOON else [pytest.mark.slow]
            yield pytest.param(kind, dtype, marks=marks)


@pytest.mark.optimized
@pytest.mark.parametrize(("kind", "dtype"), with_dtypes())
def test_a_loop_has_the_bits_of_blocks_written_out(kind, dtype):
    model = model_of(kind, dtype)
    looped = read(model)
    with mock.patch.object(blocks, "_period", len):
        written_out = read(model)
    jax.tree.map(np.testing.assert_array_equal, looped, written_out)


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_holds_a_block_of_each_kind_once(kind):
    model = model_of(kind)
    cache = model.init_cache(2, 8)
    program = jax.jit(lambda model: model(TOKENS, POSITIONS, cache)[0])
    text = program.lower(model).as_text()
    assert text.count("@jaxdecode_attend") == KINDS[kind][1]


def test_slopes_pass_through_the_loop():
    model = model_of("alike")

    def loss(model):
        return model(TOKENS, POSITIONS, model.init_cache(2, 8))[0].std()

    slopes = jax.jit(jax.grad(loss))(model).params
    with mock.patch.object(blocks, "_period", len):
        wanted = jax.jit(jax.grad(lambda model: loss(model)))(model).params
    assert all(np.asarray(slope).any() for slope in slopes.values())
    for name, slope in slopes.items():
        np.testing.assert_allclose(slope, wanted[name], atol=1e-6, err_msg=name)


def test_a_model_without_kernels_keeps_an_array_for_each_layer():
    plain = build(SIZES, random_params(SIZES), native=False)
    assert isinstance(plain.init_cache(2, 8), KVCache)
    assert isinstance(model_of("alike").init_cache(2, 8), StackedCache)
    assert isinstance(model_of("alike", head_dim=24).init_cache(2, 8), KVCache)
    np.testing.assert_allclose(read(plain)[0], read(model_of("alike"))[0], atol=2e-5)


def test_the_period_of_kinds():
    periods = ["aaaa", "abab", "aaba", "abcd", "aabaabaa", "a"]
    assert [blocks._period(list(kinds)) for kinds in periods] == [1, 2, 3, 4, 3, 1]
