"""What the compiled decode loop moves in memory, read in its program: no timing."""

import functools

import jax
import jax.numpy as jnp
import pytest

from tests.models.model_cases import PLAIN, model_of, varied
from tests.programs import moves_as_large_as

pytestmark = pytest.mark.reads_program

ROWS, HEADS, COLUMNS, SIZE = 3, 2, 128, 16
WIDTHS = {"float32": 4, "bfloat16": 2}  # bytes
BOTH = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
# Batch 1 with a lone key head is left out: XLA 0.10.2 copies that (small) cache.
EACH_SIZE = pytest.mark.parametrize(("rows", "heads"), [(1, 2), (3, 2), (3, 1)])


def decode(model, cache, tokens, lengths):
    """Greedy steps until a limit, each row at its own position."""

    def step(carry):
        count, cache, tokens, lengths = carry
        at = jnp.zeros_like(lengths)
        logits, cache = model(tokens[:, None], lengths[:, None], cache, at=at)
        tokens = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return count + 1, cache, tokens, lengths + 1

    start = (jnp.zeros((), jnp.int32), cache, tokens, lengths)
    return jax.lax.while_loop(lambda carry: carry[0] < 9, step, start)


@functools.cache
def compiled(dtype, rows=ROWS, heads=HEADS):
    config = varied(head_dim=SIZE, max_length=COLUMNS, num_kv_heads=heads)
    model = model_of(config, dtype)
    tokens, lengths = jnp.zeros((rows,), jnp.int32), jnp.arange(rows, dtype=jnp.int32)
    cache = model.init_cache(rows, COLUMNS)
    loop = jax.jit(decode, donate_argnums=1)
    return loop.lower(model, cache, tokens, lengths).compile()


@BOTH
@EACH_SIZE
def test_a_step_neither_copies_nor_transposes_nor_converts_a_cache(dtype, rows, heads):
    text = compiled(dtype, rows, heads).as_text()
    assert moves_as_large_as(text, rows * heads * COLUMNS * SIZE) == []


@BOTH
@EACH_SIZE
def test_temporaries_hold_at_most_one_layer_of_the_cache(dtype, rows, heads):
    # bfloat16 words become numbers one layer at a time; float32 needs no such room.
    layer = 2 * rows * heads * COLUMNS * SIZE * 2 if dtype == "bfloat16" else 0
    memory = compiled(dtype, rows, heads).memory_analysis()
    assert memory.temp_size_in_bytes < layer + 24_000


@BOTH
def test_the_donated_cache_is_returned_in_place(dtype):
    cache = 2 * PLAIN.num_layers * ROWS * HEADS * COLUMNS * SIZE * WIDTHS[dtype]
    assert compiled(dtype).memory_analysis().alias_size_in_bytes >= cache


def test_a_bfloat16_table_is_looked_up_without_a_copy_of_it():
    model = model_of(varied(vocab_size=4099, tied_output=True), "bfloat16")
    tokens = jnp.zeros((ROWS,), jnp.int32)
    loop = jax.jit(decode, donate_argnums=1)
    loop = loop.lower(model, model.init_cache(ROWS, 17), tokens, tokens).compile()
    table = 4099 * 24 * 2
    assert loop.memory_analysis().temp_size_in_bytes < table + 24_000


def test_the_guard_notices_a_transposed_cache():
    def transposed(cache):
        return jnp.swapaxes(cache, 1, 2) + 0.0

    cache = jnp.zeros((ROWS, HEADS, COLUMNS, SIZE))
    text = jax.jit(transposed).lower(cache).compile().as_text()
    assert moves_as_large_as(text, cache.size) != []
