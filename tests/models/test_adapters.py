"""Other people's models: a plain function, a linen module, an nnx module of one's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdecode.core.protocol import Model
from jaxdecode.models import from_function, from_linen, from_logits_function
from tests.models.model_cases import run, run_at

VOCAB, WIDTH, LENGTH = 13, 5, 11


def running_sum_logits(params, tokens):
    """A causal toy: logits of a column from the sum of the embeddings so far."""
    return jnp.cumsum(params["table"][tokens], axis=1) @ params["head"]


def running_sum_step(params, tokens, positions, cache):
    """The same with a cache: the embedding of each position, [B, T, W]."""
    rows = jnp.arange(tokens.shape[0])[:, None]
    cache = cache.at[rows, positions].set(params["table"][tokens])
    seen = jnp.arange(cache.shape[1])[None, None, :] <= positions[:, :, None]
    total = jnp.einsum("bst,btw->bsw", seen.astype(jnp.float32), cache)
    return total @ params["head"], cache


class RunningSum(nn.Module):
    """The same in linen, with and without a cache."""

    @nn.compact
    def __call__(self, tokens, positions=None, cache=None):
        table = self.param("table", nn.initializers.normal(1.0), (VOCAB, WIDTH))
        head = self.param("head", nn.initializers.normal(1.0), (WIDTH, VOCAB))
        params = {"table": table, "head": head}
        if cache is None:
            return running_sum_logits(params, tokens)
        return running_sum_step(params, tokens, positions, cache)


class RunningSumNNX(nnx.Module):
    """The same in nnx, with the protocol's own methods: no adapter needed."""

    def __init__(self, params):
        self.table = nnx.Param(params["table"])
        self.head = nnx.Param(params["head"])
        self.vocab_size, self.max_length = VOCAB, LENGTH

    def init_cache(self, rows, length):
        return make_cache(rows, length)

    def __call__(self, tokens, positions, cache, *, at=None):
        params = {"table": self.table[...], "head": self.head[...]}
        logits, cache = running_sum_step(params, tokens, positions, cache)
        return logits if at is None else logits[jnp.arange(len(at)), at], cache


def make_cache(rows, length):
    return jnp.zeros((rows, length, WIDTH))


def make_params(seed=0):
    draw = np.random.default_rng(seed).standard_normal
    shapes = {"table": (VOCAB, WIDTH), "head": (WIDTH, VOCAB)}
    return {n: jnp.asarray(draw(s), jnp.float32) for n, s in shapes.items()}


SIZES = {"vocab_size": VOCAB, "max_length": LENGTH}
MODELS = {
    "function": lambda p: from_function(
        running_sum_step, p, init_cache=make_cache, **SIZES
    ),
    "logits_function": lambda p: from_logits_function(running_sum_logits, p, **SIZES),
    "linen": lambda p: from_linen(
        RunningSum(), {"params": p}, init_cache=make_cache, **SIZES
    ),
    "linen_without_cache": lambda p: from_linen(RunningSum(), {"params": p}, **SIZES),
    "nnx": RunningSumNNX,
}
EVERY = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


def expected(tokens):
    """Logits [S, V] of one row, in plain numpy."""
    p = {name: np.asarray(value, np.float64) for name, value in make_params().items()}
    sums, total = [], np.zeros(WIDTH)
    for token in tokens:
        total = total + p["table"][token]
        sums.append(total)
    return np.asarray(sums) @ p["head"]


@EVERY
def test_an_adapted_model_satisfies_the_protocol_and_is_a_pytree(make):
    model = make(make_params())
    assert isinstance(model, Model)
    assert {leaf.shape for leaf in jax.tree.leaves(model)} == {
        (VOCAB, WIDTH),
        (WIDTH, VOCAB),
    }


@EVERY
def test_reading_a_ragged_prompt_and_then_a_token_gives_the_right_logits(make):
    model = make(make_params())
    rows = [[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]  # the second has 3 tokens
    positions = jnp.broadcast_to(jnp.arange(5, dtype=jnp.int32), (2, 5))
    tokens, at = jnp.asarray(rows, jnp.int32), jnp.asarray([4, 2], jnp.int32)
    logits, cache = run_at(model, tokens, positions, model.init_cache(2, LENGTH), at)
    np.testing.assert_allclose(logits[0], expected(rows[0])[-1], atol=1e-5)
    np.testing.assert_allclose(logits[1], expected(rows[1][:3])[-1], atol=1e-5)
    token, position = jnp.asarray([[7], [8]]), jnp.asarray([[5], [3]])
    logits, _ = run(model, token.astype(jnp.int32), position.astype(jnp.int32), cache)
    np.testing.assert_allclose(logits[0, 0], expected([*rows[0], 7])[-1], atol=1e-5)
    np.testing.assert_allclose(logits[1, 0], expected([*rows[1][:3], 8])[-1], atol=1e-5)


@EVERY
def test_new_parameters_reuse_the_compiled_program(make):
    tokens = positions = jnp.zeros((1, 1), jnp.int32)
    traces = []

    @jax.jit
    def step(model, cache):
        traces.append(1)
        return model(tokens, positions, cache)[0]

    for seed in range(2):
        model = make(make_params(seed))
        step(model, model.init_cache(1, LENGTH))
    assert len(traces) == 1


def test_logits_of_a_narrow_type_leave_as_float32():
    def half(params, tokens):
        return running_sum_logits(params, tokens).astype(jnp.bfloat16)

    model = from_logits_function(half, make_params(), **SIZES)
    tokens = jnp.zeros((1, 1), jnp.int32)
    assert run(model, tokens, tokens, model.init_cache(1, 3))[0].dtype == jnp.float32


def test_logits_of_the_wrong_shape_are_refused_when_traced():
    model = from_logits_function(model_without_head, make_params(), **SIZES)
    tokens = jnp.zeros((1, 1), jnp.int32)
    with pytest.raises(ValueError, match=r"must have shape \(1, 3, 13\).*\(1, 3, 5\)"):
        run(model, tokens, tokens, model.init_cache(1, 3))


def model_without_head(params, tokens):
    return params["table"][tokens]


def test_a_cache_without_the_row_axis_first_is_refused():
    def columns_first(rows, length):
        return {"sums": jnp.zeros((length, rows))}

    model = from_function(
        running_sum_step, make_params(), init_cache=columns_first, **SIZES
    )
    with pytest.raises(ValueError, match=r"row axis first .*\(3, 2\) at cache\['sums'"):
        model.init_cache(2, 3)


def test_a_size_that_is_no_positive_integer_is_refused():
    with pytest.raises(ValueError, match="`vocab_size` must be >= 1, got 0"):
        from_logits_function(running_sum_logits, {}, vocab_size=0, max_length=3)
