"""Single tokens of short rows on CUDA: the kernel is used where it can be, and not else.

What the kernel itself does is in `test_token_kernel.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.platform import CUDA, GPU, Blocks
from jaxdecode.core.pytree import replace
from jaxdecode.decode import trace
from jaxdecode.models import build, random_params, token_attention
from jaxdecode.models.families.gemma import GemmaConfig
from jaxdecode.models.joined import join
from jaxdecode.native import token_kernel
from jaxdecode.native.token_kernel import attend_and_write
from tests.models.model_cases import varied

LENGTH, LAYERS = 24, 2
WIDE = {"max_length": LENGTH, "head_dim": 32}
CONFIGS = {
    "grouped": varied(**WIDE),
    "window": varied(**WIDE, sliding_window=5),
    "norms": varied(**WIDE, qk_norm=True),
    "biases": varied(**WIDE, qkv_bias=True),
    "caps": GemmaConfig(
        vocab_size=37,
        width=24,
        mlp_width=29,
        num_layers=LAYERS,
        num_heads=4,
        num_kv_heads=1,
        score_cap=0.02,
        tied_output=True,
        **WIDE,
    ),
}
SMALL = varied(max_length=LENGTH)  # heads of 8
TOKENS = np.random.default_rng(0).integers(0, 37, (2, 7))
STARTS = np.array([0, 3])


@pytest.fixture
def calls(monkeypatch):
    """Let programs for the CPU run the kernel in JAX's interpreter; list its calls."""
    found = []

    def kernel(*args, **options):
        found.append(args[0].shape)
        return attend_and_write(*args, **options, interpret=True)

    monkeypatch.setattr(token_kernel, "attend_and_write", kernel)
    monkeypatch.setattr(
        token_attention, "lowered_for", lambda kinds, trick, plain, *args: trick(*args)
    )
    return found


def model(config, dtype="bfloat16"):
    """Return a model as it is on an accelerator."""
    made = build(config, random_params(config, seed=2), dtype=dtype, native=False)
    return replace(made, leaves=tuple(join(made.definition.names, made.leaves)))


def read(model, platform, count=TOKENS.shape[1]):
    """Return the logits of tokens that are read one by one, and the cache."""
    placed = model.on(platform)
    # One program for all steps; another at each call, so that `calls` sees its kernels.
    run = jax.jit(lambda model, *given: model(*given))
    cache, found = placed.init_cache(2, LENGTH), []
    for step in range(count):
        tokens, positions = TOKENS[:, step : step + 1], STARTS[:, None] + step
        given = jnp.asarray(tokens, jnp.int32), jnp.asarray(positions, jnp.int32)
        logits, cache = run(placed, *given, cache)
        found.append(logits)
    return jnp.concatenate(found, axis=1), cache


def trace_read(model, platform):
    """Trace the reading of one token, which lists the kernel's calls."""
    jax.eval_shape(lambda model: read(model, platform, count=1)[0], model)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[] if name in ("grouped", "caps") else pytest.mark.slow
        )
        for name in CONFIGS
    ],
)
def test_a_model_says_with_the_kernel_what_it_says_without(calls, name):
    one = model(CONFIGS[name])
    (found, cache), (expected, plain) = (read(one, p) for p in (CUDA, GPU))
    assert len(calls) == LAYERS
    np.testing.assert_allclose(found, expected, atol=0.03)
    for mine, theirs in zip(*map(jax.tree.leaves, (cache, plain)), strict=True):
        pair = (np.asarray(x, np.float32) for x in (mine, theirs))
        np.testing.assert_allclose(*pair, atol=0.07)


def test_a_joined_product_without_biases_is_summed_in_the_kernel(calls):
    for name in CONFIGS:
        trace_read(model(CONFIGS[name]), CUDA)
    assert [shape[0] for shape in calls[::LAYERS]] == [4, 4, 1, 1, 4]


@pytest.mark.parametrize(
    ("config", "dtype"), [(SMALL, "bfloat16"), (CONFIGS["grouped"], "float32")]
)
def test_heads_and_numbers_that_the_kernel_lacks_are_read_without_it(
    calls, config, dtype
):
    one = model(config, dtype)
    found, expected = (read(one, platform)[0] for platform in (CUDA, GPU))
    assert calls == []
    # The joined product is summed in parts.
    atol = 0.03 if dtype == "bfloat16" else 1e-5
    np.testing.assert_allclose(found, expected, atol=atol)


def test_a_long_cache_is_read_without_the_kernel(calls):
    blocks = Blocks(columns=8, columns_whole=LENGTH - 1, scores_max=2**24)
    long = dataclasses.replace(CUDA, blocks=blocks)
    trace_read(model(CONFIGS["grouped"]), long)
    assert calls == []
    trace_read(model(CONFIGS["grouped"]), long.for_rows_up_to(12))
    assert len(calls) == LAYERS


def test_a_model_on_a_mesh_has_no_kernel(calls):
    mesh = jax.make_mesh((1, 1), ("data", "tensor"))
    split = jd.shard(model(CONFIGS["grouped"]), mesh, data="data", tensor="tensor")
    trace_read(split, CUDA)
    assert calls == []


def test_the_slope_is_that_of_the_steps_one_by_one(calls):
    one = model(CONFIGS["grouped"])

    def loss(model, platform):
        return jnp.sum(read(model, platform, count=2)[0] ** 2)

    slopes = jax.jit(jax.grad(loss), static_argnums=1)
    found, expected = (slopes(one, platform) for platform in (CUDA, GPU))
    for mine, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        pair = [np.asarray(x, np.float32) for x in (mine, theirs)]
        np.testing.assert_allclose(*pair, atol=0.05 * np.abs(pair[1]).max())


def test_only_programs_that_are_not_exported_hold_the_kernel():
    one = model(CONFIGS["grouped"])
    found = [
        "pallas_call"
        in str(trace(one, [[1, 2]], 0, max_new_tokens=3, platform=p).jaxpr)
        for p in (CUDA, GPU)
    ]
    assert found == [True, False]
