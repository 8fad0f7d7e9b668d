"""The key/value cache: layout, writes at each row's own column, storage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.cache import KVCache, StackedCache

LAYERS, ROWS, HEADS, LENGTH, SIZE, COLUMNS = 2, 3, 5, 11, 7, 2


def cache_of(dtype, **options):
    sizes = {"layers": LAYERS, "rows": ROWS, "heads": HEADS}
    return KVCache.empty(**sizes, length=LENGTH, size=SIZE, dtype=dtype, **options)


def columns(seed):
    draw = np.random.default_rng(seed).standard_normal((ROWS, HEADS, COLUMNS, SIZE))
    return draw.astype(jnp.bfloat16).astype(np.float32)  # exact in both storage types


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_leaf_has_the_row_axis_first_and_columns_third(dtype):
    leaves = jax.tree.leaves(cache_of(dtype))
    assert [leaf.shape for leaf in leaves] == [(ROWS, HEADS, LENGTH, SIZE)] * 2 * LAYERS


def test_a_bfloat16_cache_is_stored_as_uint16_words():
    assert {leaf.dtype for leaf in jax.tree.leaves(cache_of("bfloat16"))} == {
        np.dtype(np.uint16)
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cache_without_words_is_stored_as_it_is(dtype):
    leaves = jax.tree.leaves(cache_of(dtype, words=False))
    assert {leaf.dtype.name for leaf in leaves} == {dtype}


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_row_is_written_at_its_own_columns_of_one_layer_only(dtype, words):
    keys, values, starts = columns(0), columns(1), [4, 0, 9]
    cache = cache_of(dtype, words=words).write(
        1, jnp.asarray(keys), jnp.asarray(values), jnp.asarray(starts, jnp.int32)
    )
    expected = np.zeros((2, 2, ROWS, HEADS, LENGTH, SIZE), np.float32)
    for row, start in enumerate(starts):
        expected[1, 0, row, :, start : start + COLUMNS] = keys[row]
        expected[1, 1, row, :, start : start + COLUMNS] = values[row]
    got = [[np.asarray(x, np.float32) for x in cache.read(i)] for i in range(LAYERS)]
    np.testing.assert_array_equal(np.asarray(got), expected)


@pytest.mark.parametrize("kind", [KVCache, StackedCache])
@pytest.mark.parametrize("count", [1, COLUMNS])
def test_columns_past_the_end_are_dropped(count, kind):
    new = columns(0)[:, :, :count]
    sizes = {"layers": LAYERS, "rows": ROWS, "heads": HEADS, "length": LENGTH}
    cache = kind.empty(**sizes, size=SIZE, dtype="float32")
    starts = jnp.asarray([LENGTH - 1, LENGTH, 0], jnp.int32)
    cache = cache.write(1, jnp.asarray(new), jnp.asarray(new), starts)
    expected = np.zeros((LAYERS, ROWS, HEADS, LENGTH, SIZE), np.float32)
    expected[1, 0, :, LENGTH - 1] = new[0, :, 0]
    expected[1, 2, :, :count] = new[2]
    for layer in range(LAYERS):
        for found in cache.read(layer):
            np.testing.assert_array_equal(found, expected[layer])


def test_more_columns_than_the_cache_has_are_refused():
    new = jnp.zeros((ROWS, HEADS, LENGTH + 1, SIZE))
    with pytest.raises(ValueError, match=r"at most the length \(11\), got 12"):
        cache_of("float32").write(0, new, new, jnp.zeros((ROWS,), jnp.int32))


def test_an_unknown_storage_type_is_refused_by_name():
    with pytest.raises(ValueError, match="must be one of 'float32', 'bfloat16'"):
        cache_of("int4")
