"""The kernel that writes and attends does what a cache and attention do one by one.

Without a GPU JAX's interpreter runs it, one group of threads after the other.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.cache import KVCache
from jaxdecode.models.attention import attend, visible
from jaxdecode.models.rope import Rotation
from jaxdecode.native.token_kernel import COLUMNS, attend_and_write

PARTS, ROWS, HEADS, SIZE, LENGTH = 2, 5, 2, 32, 2 * COLUMNS + 19
SCALE = 0.3
# The first column, both sides of a block's edge, the last column, and one beyond it.
POSITIONS = (0, COLUMNS - 1, COLUMNS, LENGTH - 1, LENGTH)


def given(group):
    generator = np.random.default_rng(3)

    def draw(*shape):
        return jnp.asarray(generator.normal(size=shape), jnp.float32)

    stored = (ROWS, HEADS, LENGTH, SIZE)
    cache = KVCache(
        keys=(draw(*stored).astype(jnp.bfloat16),),
        values=(draw(*stored).astype(jnp.bfloat16),),
    )
    angles = draw(ROWS, SIZE // 2)
    heads = draw(PARTS, ROWS, HEADS * (group + 2), SIZE)
    return heads, jnp.cos(angles), jnp.sin(angles), cache, jnp.asarray(POSITIONS)


def written(group, window, cap, cache=None):
    heads, cos, sin, own, positions = given(group)
    interpret = jax.default_backend() != "gpu"
    options = {"scale": SCALE, "window": window, "cap": cap, "interpret": interpret}
    stored = (cache or own).read(0)
    return attend_and_write(heads, cos, sin, *stored, positions, **options)


def expected(group, window, cap):
    heads, cos, sin, cache, positions = given(group)
    turn = Rotation(
        cos=jnp.concatenate([cos, cos], axis=-1)[:, None, None],
        sin=jnp.concatenate([-sin, sin], axis=-1)[:, None, None],
    )
    heads = jnp.sum(heads, axis=0)[:, None]
    q, k, v = jnp.split(heads, [HEADS * group, HEADS * (group + 1)], axis=2)
    q, k = turn(q), turn(k)
    cache = cache.write(0, jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2), positions)
    mask = visible(positions[:, None], LENGTH, window)
    return attend(q * SCALE, *cache.read(0), mask, cap)[:, 0], *cache.read(0)


def groups_and_masks():
    """Each size of a group, and each mask, is tried soon; the rest of the pairs later."""
    masks = (None, None), (7, None), (COLUMNS + 5, 1.5)
    for place, group in enumerate((1, 3, 4)):
        for other, mask in enumerate(masks):
            marks = [] if place == other else [pytest.mark.slow]
            yield pytest.param(group, *mask, marks=marks)


@pytest.mark.parametrize(("group", "window", "cap"), groups_and_masks())
def test_a_token_is_written_and_reads_what_attention_reads(group, window, cap):
    found, wanted = written(group, window, cap), expected(group, window, cap)
    for mine, theirs in zip(found[1:], wanted[1:], strict=True):
        # A rotation may be rounded to the next number, where its sum is fused.
        mine, theirs = (np.asarray(x, np.float32) for x in (mine, theirs))
        np.testing.assert_allclose(mine, theirs, rtol=2**-7, atol=1e-6)
    # A row beyond the cache has ended: what it reads is not seen.
    pair = (np.asarray(x[0], np.float32)[:-1] for x in (found, wanted))
    np.testing.assert_allclose(*pair, atol=0.02, rtol=0.02)


def test_no_column_out_of_sight_is_read():
    cache, positions = given(4)[3:]
    column = jnp.arange(LENGTH)[None, None, :, None]
    own = positions[:, None, None, None]
    unseen = (column >= own) | (column <= own - 70)
    broken = KVCache(
        keys=(jnp.where(unseen, jnp.nan, cache.keys[0]),),
        values=(jnp.where(unseen, jnp.nan, cache.values[0]),),
    )
    found, wanted = written(4, 70, None, broken)[0], written(4, 70, None)[0]
    assert (found == wanted).all()
