"""One product of rows with several matrices equals a product for each row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdecode.models.grouped import _ragged, grouped_matmul
from jaxdecode.models.layers import RMSNorm
from jaxdecode.models.mixture import MixtureMLP
from jaxdecode.models.quantize import quantize_matrix

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((5, 7, 11)).astype(np.float32)
COUNTS = [
    [0, 3, 0, 0, 0],
    [1, 1, 1, 1, 1],
    [0, 0, 0, 0, 37],
    [37, 0, 0, 0, 0],
    [3, 0, 17, 1, 16],
    [700, 0, 3, 29, 1],
]


def rows_of(counts):
    return RNG.standard_normal((sum(counts), 11)).astype(np.float32)


def dense(rows, weights, counts):
    return grouped_matmul(rows, weights, None, counts)


def one_by_one(rows, weights, counts):
    owners = np.repeat(np.arange(len(counts)), counts)
    return np.stack([weights[e] @ row for row, e in zip(rows, owners, strict=True)])


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize(
    "way", [lambda *a: grouped_matmul(a[0], a[1], None, a[2]), _ragged]
)
def test_each_row_meets_its_own_matrix(way, counts):
    rows = rows_of(counts)
    found = jax.jit(way)(rows, WEIGHTS, jnp.asarray(counts, jnp.int32))
    np.testing.assert_allclose(found, one_by_one(rows, WEIGHTS, counts), atol=1e-5)


@pytest.mark.parametrize("counts", COUNTS[-2:], ids=str)
def test_int8_matrices_have_scales_of_their_own(counts):
    rows = rows_of(counts)
    levels, scales = zip(*map(quantize_matrix, WEIGHTS), strict=True)
    levels, scales = np.stack(levels), np.stack(scales)
    found = jax.jit(grouped_matmul)(
        rows, levels, scales, jnp.asarray(counts, jnp.int32)
    )
    expected = one_by_one(rows, levels * scales[..., None], counts)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def mixture(is_normalised):
    return MixtureMLP(
        11, 7, experts=5, chosen=2, is_normalised=is_normalised, activation="silu",
        dtype="float32", rngs=nnx.Rngs(0),
    )  # fmt: skip


@pytest.mark.parametrize("is_normalised", [True, False])
def test_a_token_is_read_by_its_best_experts_in_their_shares(is_normalised):
    module, x = (
        mixture(is_normalised),
        RNG.standard_normal((2, 3, 11)).astype(np.float32),
    )
    graph, state = nnx.split(module)

    @jax.jit
    def run(state, x):
        return nnx.merge(graph, state)(x, RMSNorm(11, eps=1e-6))

    found = run(state, x)
    unit = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
    router, gate, up, down = (np.asarray(part.weight[...]) for part in (
        module.router, module.experts.gate, module.experts.up, module.experts.down,
    ))  # fmt: skip
    for place in np.ndindex(2, 3):
        n = unit[place]
        shares = np.exp(router @ n) / np.exp(router @ n).sum()
        best = np.argsort(-shares)[:2]
        total = shares[best].sum() if is_normalised else 1.0
        hidden = [
            gate[e] @ n / (1 + np.exp(-(gate[e] @ n))) * (up[e] @ n) for e in best
        ]
        expected = sum(
            shares[e] / total * (down[e] @ h) for e, h in zip(best, hidden, strict=True)
        )
        np.testing.assert_allclose(found[place], expected, atol=1e-5)


def test_slopes_pass_through_the_experts():
    module, x = mixture(True), RNG.standard_normal((1, 3, 11)).astype(np.float32)
    graph, state = nnx.split(module)

    def loss(state):
        return nnx.merge(graph, state)(x, RMSNorm(11, eps=1e-6)).std()

    slopes = jax.tree.leaves(jax.jit(jax.grad(loss))(state))
    assert all(np.isfinite(slope).all() and np.asarray(slope).any() for slope in slopes)
