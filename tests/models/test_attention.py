"""Attention, masks and rotary positions against plain loops."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.models import RopeScaling
from jaxdecode.models.attention import attend, visible
from jaxdecode.models.rope import frequencies, rotation
from tests.models.model_cases import LLAMA3, varied
from tests.reference import attention as reference

ROWS, NEW, COLUMNS, SIZE = 2, 5, 11, 6


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (3, 3), (4, 1)])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_attention_over_a_cache_equals_loops_over_heads_and_columns(
    heads, kv_heads, window
):
    generator = np.random.default_rng(0)
    full = generator.standard_normal((ROWS, COLUMNS, heads, SIZE)).astype(np.float32)
    k, v = generator.standard_normal((2, ROWS, COLUMNS, kv_heads, SIZE), np.float32)
    starts = [3, 6]
    positions = jnp.asarray([range(s, s + NEW) for s in starts], jnp.int32)
    q = np.stack([full[b, s : s + NEW] for b, s in enumerate(starts)])
    got = attend(
        jnp.asarray(q),
        jnp.asarray(np.swapaxes(k, 1, 2)),
        jnp.asarray(np.swapaxes(v, 1, 2)),
        visible(positions, COLUMNS, window),
    )
    for b, s in enumerate(starts):
        row = (a[b].astype(np.float64) for a in (full, k, v))
        expected = reference.attention(*row, scale=1.0, window=window)
        np.testing.assert_allclose(got[b], expected[s : s + NEW], atol=1e-5)


def test_a_hidden_column_has_no_weight_whatever_it_holds():
    q = jnp.ones((1, 1, 1, 2))
    k = jnp.asarray([[[[0.0, 0.0], [100.0, 100.0]]]])
    v = jnp.asarray([[[[1.0, 2.0], [1e30, -1e30]]]])
    seen = visible(jnp.zeros((1, 1), jnp.int32), 2, None)
    np.testing.assert_array_equal(attend(q, k, v, seen)[0, 0, 0], [1.0, 2.0])


@pytest.mark.reads_program
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_product_of_a_bfloat16_model_has_a_lone_row(dtype):
    q, kv = jnp.ones((1, 1, 3, 4)), jnp.ones((1, 3, 7, 4), dtype)
    seen = visible(jnp.zeros((1, 1), jnp.int32), 7, None)
    traced = jax.jit(attend).trace(q, kv, kv, seen)
    for platform, expected in ("cpu", 2 if dtype == "bfloat16" else 1), ("tpu", 1):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        rows = {re.search(r": \(tensor<1x3x(\d+)x", line)[1] for line in products}
        assert rows == {str(expected)}
    # XLA drops the choice between platforms, whose index is a constant.
    compiled = traced.lower(lowering_platforms=("cpu",)).compile().as_text()
    assert "conditional(" not in compiled


@pytest.mark.parametrize(
    "scaling", [None, RopeScaling("linear", factor=4.0), LLAMA3], ids=str
)
def test_rotation_turns_each_plane_by_its_scaled_angle(scaling):
    config = varied(head_dim=16, rope_theta=100.0, rope_scaling=scaling)
    positions = jnp.asarray([[0, 1, 2], [40, 41, 42]], jnp.int32)
    heads = np.random.default_rng(0).standard_normal((2, 3, 5, 16)).astype(np.float32)
    got = rotation(positions, config.layer_kind(0), 16)(jnp.asarray(heads))
    plain = None if scaling is None else dataclasses.asdict(scaling)
    for b, s, h in np.ndindex(2, 3, 5):
        expected = reference.rotate(
            heads[b, s, h].astype(np.float64), int(positions[b, s]), 100.0, plain
        )
        np.testing.assert_allclose(got[b, s, h], expected, atol=1e-5)


def test_llama3_scaling_keeps_fast_planes_stretches_slow_ones_and_blends_between():
    config = varied(head_dim=16, rope_theta=100.0, rope_scaling=LLAMA3)
    plain = 100.0 ** (-np.arange(8) / 8)
    ratio = plain / frequencies(config.layer_kind(0), 16)
    assert np.isclose(ratio, 1.0).any()
    assert np.isclose(ratio, 8.0).any()
    assert ((ratio > 1.01) & (ratio < 7.99)).any()
