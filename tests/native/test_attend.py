"""Attention by the kernel against a loop over columns, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.models.attention import _attend_visible
from jaxdecode.native import attend_columns

POSITIONS = np.asarray([0, 5, 15, 16, 29, 88], np.int32)
LAYERS, LAYER = 3, 1  # of the cache, and which of them is read
DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def case(dtype, heads=6, kv_heads=2, columns=89, size=32, seed=0):
    """Queries, stored keys and values, and the numbers those stand for."""
    rng = np.random.default_rng(seed)
    rows = len(POSITIONS)
    q = rng.standard_normal((rows, heads, size), np.float32)
    shape = (2, rows, LAYERS, kv_heads, columns, size)
    kept = jnp.asarray(rng.standard_normal(shape, np.float32)).astype(dtype)
    words = jax.lax.bitcast_convert_type(kept, jnp.uint16)
    stored = kept if dtype == "float32" else words
    return jnp.asarray(q), stored[0], stored[1], np.asarray(kept, np.float64)


def expected(q, numbers, window):
    """Softmax-weighted values of the columns each row sees, one by one."""
    q, out = np.asarray(q, np.float64), np.zeros(q.shape)
    numbers = numbers[:, :, LAYER]
    group = q.shape[1] // numbers.shape[2]
    for b, position in enumerate(POSITIONS):
        first = max(0, position + 1 - (window or position + 1))
        for h in range(q.shape[1]):
            keys, values = numbers[:, b, h // group, first : position + 1]
            weights = np.exp(keys @ q[b, h] - (keys @ q[b, h]).max())
            out[b, h] = weights @ values / weights.sum()
    return out


def attend(q, keys, values, window=None, positions=POSITIONS):
    """One token per row: [B, H, D]."""
    twin = functools.partial(_attend_visible, window=window)
    at = jnp.asarray(positions)[:, None]
    return attend_columns(q[:, None], keys, values, at, LAYER, window, twin)[:, 0]


def plain(q, keys, values):
    at = jnp.asarray(POSITIONS)[:, None]
    return _attend_visible(q[:, None], keys, values, at, LAYER, window=None)[:, 0]


@DTYPES
@pytest.mark.parametrize(
    "heads",
    [
        *((6, 2), (5, 1)),
        *(pytest.param(h, marks=pytest.mark.slow) for h in ((2, 2), (8, 1), (9, 3))),
    ],
)
@pytest.mark.parametrize(("size", "window"), [(32, None), (64, None), (96, 7)])
def test_it_equals_a_loop_over_the_columns(dtype, heads, size, window):
    q, keys, values, numbers = case(dtype, *heads, size=size)
    got = attend(q, keys, values, window)
    np.testing.assert_allclose(got, expected(q, numbers, window), atol=3e-6)


@DTYPES
def test_it_equals_the_plain_form(dtype):
    q, keys, values, _ = case(dtype)
    wanted = plain(q, keys, values)
    atol = 1e-5 if dtype == "float32" else 3e-2  # the plain form rounds to bfloat16
    np.testing.assert_allclose(attend(q, keys, values), wanted, atol=atol)


@DTYPES
def test_bits_depend_on_live_columns_only(dtype):
    q, keys, values, _ = case(dtype)
    whole = np.asarray(attend(q, keys, values))
    dirt = jnp.full_like(keys[:, :, :, 30:], 7 if keys.dtype == jnp.uint16 else jnp.nan)
    filled = [
        jnp.concatenate([kept[:, :, :, :30], dirt], axis=3) for kept in (keys, values)
    ]
    cut = [kept[:, :, :, :30] for kept in (keys, values)]
    for other in (filled, cut):
        np.testing.assert_array_equal(attend(q, *other)[:5], whole[:5])
    alone = attend(q[3:4], keys[3:4], values[3:4], positions=POSITIONS[3:4])
    np.testing.assert_array_equal(alone[0], whole[3])


def test_vmap_equals_a_loop():
    q, keys, values, _ = case("bfloat16")
    many = jnp.stack([q, q * 0.5])
    got = jax.vmap(lambda q: attend(q, keys, values))(many)
    for i in range(2):
        np.testing.assert_array_equal(got[i], attend(many[i], keys, values))


def test_slopes_are_those_of_the_plain_form():
    q, keys, values, _ = case("float32")

    def total(attend, *operands):
        return (attend(*operands) ** 2).sum()

    got = jax.grad(functools.partial(total, attend), argnums=(0, 1, 2))(q, keys, values)
    wanted = jax.grad(functools.partial(total, plain), argnums=(0, 1, 2))(
        q, keys, values
    )
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("place", ["query", "key", "value"])
def test_a_broken_number_is_not_hidden(place):
    q, keys, values, _ = case("float32")
    sound = np.asarray(attend(q, keys, values))
    if place == "query":
        q = q.at[2, :, 0].set(jnp.nan)
    elif place == "key":
        keys = keys.at[2, LAYER, :, 3, 0].set(jnp.nan)
    else:
        values = values.at[2, LAYER, :, 3, :].set(jnp.nan)
    broken = np.asarray(attend(q, keys, values))
    assert np.isnan(broken[2]).all()
    np.testing.assert_array_equal(np.delete(broken, 2, 0), np.delete(sound, 2, 0))


# Tokens, heads, key heads, head size, window: tiles that are full, filled up and of
# several tokens each, several spans of columns, and blocks of more than one thread.
TOGETHER = [
    (3, 6, 2, 32, None),
    (70, 3, 1, 64, None),
    (41, 5, 5, 96, 37),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            (300, 2, 2, 32, None),
            (300, 4, 1, 64, 130),
            (9, 40, 1, 128, None),
            (2, 400, 1, 32, None),
            (25, 2, 1, 256, 1),
        )
    ),
]


def prompt(dtype, tokens, heads, kv_heads, size, starts):
    """Queries of some rows' tokens, what is stored, and the tokens' columns."""
    rng = np.random.default_rng(7)
    rows, columns = len(starts), max(starts) + tokens
    q = rng.standard_normal((rows, tokens, heads, size), np.float32)
    shape = (2, rows, LAYERS, kv_heads, columns, size)
    kept = jnp.asarray(rng.standard_normal(shape, np.float32)).astype(dtype)
    if dtype == "bfloat16":
        kept = jax.lax.bitcast_convert_type(kept, jnp.uint16)
    at = np.asarray(starts, np.int32)[:, None] + np.arange(tokens, dtype=np.int32)
    return jnp.asarray(q * 0.3), *kept, jnp.asarray(at)


@DTYPES
@pytest.mark.parametrize(("tokens", "heads", "kv_heads", "size", "window"), TOGETHER)
def test_tokens_read_together_have_the_bits_of_tokens_read_alone(
    dtype, tokens, heads, kv_heads, size, window
):
    q, keys, values, at = prompt(dtype, tokens, heads, kv_heads, size, (0, 101))
    twin = functools.partial(_attend_visible, window=window)
    together = attend_columns(q, keys, values, at, LAYER, window, twin)
    assert np.isfinite(together).all()
    for s in range(0, tokens, 1 + tokens // 40):
        alone = attend(q[:, s], keys, values, window, positions=at[:, s])
        np.testing.assert_array_equal(together[:, s], alone, err_msg=f"token {s}")


@DTYPES
def test_items_with_keys_of_their_own_are_no_tokens_of_one_row(dtype):
    q, keys, values, _ = case(dtype)
    result = jax.ShapeDtypeStruct(q.shape, jnp.float32)
    call = jax.ffi.ffi_call("jaxdecode_attend", result)
    given = q, keys, values, jnp.asarray(POSITIONS), np.int32(LAYER)
    got = call(*given, window=np.int64(0))
    np.testing.assert_array_equal(got, attend(q, keys, values))


@pytest.mark.parametrize("tokens", [1, 20])
def test_a_token_that_sees_nothing_reads_zeros(tokens):
    q, keys, values, at = prompt("float32", tokens, 3, 1, 64, (5, 9))
    twin = functools.partial(_attend_visible, window=None)
    sound = attend_columns(q, keys, values, at, LAYER, None, twin)
    got = attend_columns(q, keys, values, at.at[0, 0].set(-1), LAYER, None, twin)
    assert not np.asarray(got[0, 0]).any()
    np.testing.assert_array_equal(got[0, 1:], sound[0, 1:])
    np.testing.assert_array_equal(got[1], sound[1])


@DTYPES
def test_a_later_token_that_is_broken_harms_no_earlier_one(dtype):
    q, keys, values, at = prompt(dtype, 40, 3, 1, 64, (0, 101))
    twin = functools.partial(_attend_visible, window=None)
    sound = attend_columns(q, keys, values, at, LAYER, None, twin)
    nan = np.uint16(0x7FC0) if dtype == "bfloat16" else np.nan
    first = np.asarray(at[:, 17])  # its columns hold no number
    for row, column in enumerate(first):
        keys = keys.at[row, :, :, column].set(nan)
        values = values.at[row, :, :, column].set(nan)
    broken = np.asarray(attend_columns(q, keys, values, at, LAYER, None, twin))
    np.testing.assert_array_equal(broken[:, :17], sound[:, :17])
    assert np.isnan(broken[:, 17:]).all()
