"""Attention by blocks of columns does what plain attention does, and reads no more."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.cache import KVCache
from jaxdecode.core.platform import CPU, GPU, TPU, Blocks
from jaxdecode.models import outline
from jaxdecode.models.attention import attend, place, visible
from jaxdecode.models.block_attention import block_place
from jaxdecode.models.config import LayerKind
from tests.models.model_cases import varied

ROWS, NEW, COLUMNS, HEADS, KV_HEADS, SIZE = 3, 13, 37, 6, 2, 8
STARTS = (0, 11, 24)
# Blocks that divide the columns or do not, tokens at once or in parts or one by one.
BLOCKS = {
    "all tokens at once": Blocks(columns=8, columns_whole=8, scores_max=10**6),
    "parts of four tokens": Blocks(
        columns=8, columns_whole=8, scores_max=ROWS * HEADS * 8 * 7
    ),
    "token by token": Blocks(columns=5, columns_whole=5, scores_max=1),
    "one block": Blocks(columns=37, columns_whole=37, scores_max=10**6),
}
KINDS = {
    "all columns": (None, None),
    "a window in a block": (4, None),
    "a window and a cap": (9, 2.0),
    "a cap": (None, 3.0),
}
SOON = ("all columns", "a window and a cap")  # whose slopes are compared soon
PART = BLOCKS["parts of four tokens"]


def numbers(dtype=jnp.float32, new=NEW):
    generator = np.random.default_rng(0)
    shapes = (ROWS, new, HEADS, SIZE), *[(ROWS, KV_HEADS, COLUMNS, SIZE)] * 2
    q, k, v = (jnp.asarray(generator.normal(size=s), jnp.float32) for s in shapes)
    return q, k.astype(dtype), v.astype(dtype)


def positions(new=NEW, starts=STARTS):
    first = jnp.asarray(starts, jnp.int32)[:, None]
    return first + jnp.arange(new, dtype=jnp.int32)[None]


@functools.partial(jax.jit, static_argnames=("window", "cap", "blocks"))
def by_blocks(q, k, v, own, window, cap, blocks):
    where = block_place(own, COLUMNS, HEADS, {window}, {}, blocks)
    kind = LayerKind(window, None, None, score_cap=cap)
    return where.attend(q, KVCache((k,), (v,)), 0, kind)


@functools.partial(jax.jit, static_argnames=("window", "cap"))
def plainly(q, k, v, own, window, cap):
    return attend(q, k, v, visible(own, COLUMNS, window), cap)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_attention_by_blocks_is_that_of_all_columns(blocks, kind):
    found = by_blocks(*numbers(), positions(), *kind, blocks)
    expected = plainly(*numbers(), positions(), *kind)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=[] if name in SOON else [pytest.mark.slow])
        for name, kind in KINDS.items()
    ],
)
def test_attention_by_blocks_has_the_slope_of_all_columns(kind):
    weight = jnp.asarray(np.random.default_rng(1).normal(size=numbers()[0].shape))

    def slopes(function, *rest):
        def total(q, k, v):
            mixed = function(q, k, v, positions(), *kind, *rest)
            return jnp.sum(mixed * weight.astype(jnp.float32))

        return jax.grad(total, argnums=(0, 1, 2))(*numbers())

    for found, expected in zip(slopes(by_blocks, PART), slopes(plainly), strict=True):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_bfloat16_cache_is_rounded_as_in_plain_attention():
    given = *numbers(jnp.bfloat16), positions(), None, None
    found, expected = by_blocks(*given, PART), plainly(*given)
    np.testing.assert_allclose(found, expected, atol=0.02)
    # Weights are rounded before or after they are divided, so not to the last bit.
    assert np.abs(found - expected).mean() < 0.002


def poisoned(first, last):
    """Return keys and values with NaN outside columns `first` to `last` - 1."""
    q, k, v = numbers(new=1)
    column = jnp.arange(COLUMNS)[None, None, :, None]
    outside = (column < first) | (column >= last)
    return q, *(jnp.where(outside, jnp.nan, x) for x in (k, v))


@pytest.mark.parametrize(
    ("starts", "window", "first", "last"),
    [
        ((0, 7, 3), None, 0, 8),  # the last row is at the last column of a block
        ((0, 8, 3), None, 0, 16),  # and at the first one of the next
        ((0, 36, 3), None, 0, 37),
        ((20, 18, 23), 3, 16, 24),
        ((20, 17, 23), 3, 8, 24),
    ],
)
def test_no_block_out_of_sight_of_every_row_is_read(starts, window, first, last):
    own = positions(1, starts)
    found = by_blocks(*poisoned(first, last), own, window, None, PART)
    expected = plainly(*numbers(new=1), own, window, None)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_part_of_a_prompt_reads_no_block_behind_its_last_token():
    q, k, v = numbers()
    k, v = (x.at[:, :, 8:].set(jnp.nan) for x in (k, v))
    own = positions(starts=(0, 0, 0))
    found = by_blocks(q, k, v, own, None, None, PART)
    expected = plainly(*numbers(), own, None, None)
    np.testing.assert_allclose(found[:, :8], expected[:, :8], atol=1e-6)
    assert np.isnan(found[:, 8:]).all()


def test_rows_of_a_vmap_may_see_different_blocks():
    q, k, v = (x[:, None] for x in numbers())
    own = positions()[:, None]
    one = functools.partial(by_blocks, window=None, cap=None, blocks=PART)
    found = jax.vmap(one)(q, k, v, own)[:, 0]
    expected = plainly(*numbers(), positions(), None, None)
    np.testing.assert_allclose(found, expected, atol=1e-6)


LONG = varied(max_length=4096)
TINY = Blocks(columns=8, columns_whole=16, scores_max=600)


def kind_of_place(platform, new, columns):
    cache = KVCache.empty(
        layers=1, rows=1, heads=2, length=columns, size=8, dtype="float32"
    )
    own = positions(new, (0,))
    return type(place(own, cache, LONG, platform=platform)[0]).__name__


@pytest.mark.parametrize(
    ("platform", "new", "columns", "kind"),
    [
        (TPU, 1, 16, "Place"),
        (TPU, 1, 17, "BlockPlace"),
        (GPU, 1, 17, "Place"),  # a loop would ask the host
        (TPU, 10, 15, "Place"),  # 4 heads: 600 scores
        (TPU, 10, 16, "BlockPlace"),
        (GPU, 10, 16, "BlockPlace"),
        (TPU, 99, 8, "Place"),  # one block
        (CPU, 99, 999, "Place"),
    ],
)
def test_the_platform_decides_which_caches_are_read_by_blocks(
    platform, new, columns, kind
):
    if platform.blocks:
        platform = dataclasses.replace(platform, blocks=TINY)
    assert kind_of_place(platform, new, columns) == kind


def test_heads_fill_a_tpus_lanes_in_caches_of_several_blocks():
    config = varied(max_length=600)
    block = TPU.blocks.columns
    for platform, columns, expected in (
        (TPU, block, config.head_size),
        (TPU, block + 1, 128),
        (GPU, block + 1, config.head_size),
        (CPU, block + 1, config.head_size),
    ):
        cache = outline(config).on(platform).init_cache(1, columns)
        assert cache.size == expected
