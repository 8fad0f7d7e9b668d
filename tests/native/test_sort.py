"""Rows in order by the kernel against numpy's stable sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.native import sorted_row


def rows_of(kind, size, count=3, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, size))
    made = {
        "normal": 3 * drawn,
        "flat": 1e-3 * drawn,
        "tied": np.round(2 * drawn),
        "huge": np.clip(drawn, -3, 3) * 1e38,
        "tiny": drawn * 1e-42,
        "zeros": np.where(drawn > 0, 0.0, -0.0),
        "masked": np.where(drawn > 0, -np.inf, drawn),
        "infinite": np.where(drawn > 1, np.inf, drawn),
    }
    return made[kind].astype(np.float32)


KINDS = ["normal", "flat", "tied", "huge", "tiny", "zeros", "masked", "infinite"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 37, 4099])
def test_order_is_value_descending_then_index_ascending(kind, size):
    rows = rows_of(kind, size)
    values, order = jax.vmap(sorted_row)(jnp.asarray(rows))
    for row, value, index in zip(rows, values, order, strict=True):
        wanted = np.argsort(-row, kind="stable")
        np.testing.assert_array_equal(index, wanted)
        np.testing.assert_array_equal(
            np.asarray(value).view(np.uint32), row[wanted].view(np.uint32)
        )


def test_slopes_follow_the_order():
    row = jnp.asarray(rows_of("tied", 37)[0])
    push = jnp.arange(37.0, dtype=jnp.float32)
    slope = jax.grad(lambda row: sorted_row(row)[0] @ push)(row)
    order = np.argsort(-np.asarray(row), kind="stable")
    np.testing.assert_array_equal(np.asarray(slope)[order], push)


def test_a_row_with_nan_loses_no_entry():
    row = rows_of("normal", 4099)[0]
    row[[5, 77]] = np.nan
    order = np.asarray(sorted_row(jnp.asarray(row))[1])
    np.testing.assert_array_equal(np.sort(order), np.arange(4099))
