"""What the compiled loop of `generate` moves, sorts and holds, read in its program.

Every family of models, precision and way of looping, with the sampler most people use.
No timing: what is read here is what made steps slow when it was there.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode import streaming, trace
from jaxdecode.decode.request import prepare
from jaxdecode.native import current_platform
from tests.models.model_cases import GPT2, PLAIN, model_of, varied
from tests.programs import Program, moves_as_large_as, widths

pytestmark = pytest.mark.reads_program

ROWS, COLUMNS, VOCAB = 3, 128, 67
FAMILIES = {"llama": {"head_dim": 16}, "gpt2": GPT2}
PRECISIONS = ("float32", "bfloat16", "int8")
LAYERS = 2
LOOPS = ("while", "scan", "stream")
PROMPTS = [[1, 2, 3], [4], [5, 6]]
SAMPLER = {"top_k": 50, "top_p": 0.9, "temperature": 0.8}
CASES = [(f, p, loop) for f in FAMILIES for p in PRECISIONS for loop in LOOPS]
# Each compiles for two seconds. Every family is read once here, with the loops and
# precisions people use most; all combinations are with the slow tests.
SOON = {
    ("gpt2", "bfloat16", "while"),
    ("llama", "int8", "stream"),
}


def later(case):
    return [] if case in SOON else pytest.mark.slow


def params(cases):
    return [pytest.param(c, id="-".join(c), marks=later(c)) for c in cases]


EACH = pytest.mark.parametrize("case", params(CASES))


@functools.cache
def model(family, dtype):
    changes = {
        "vocab_size": VOCAB,
        "max_length": COLUMNS,
        "num_layers": LAYERS,
    } | FAMILIES[family]
    return model_of(varied(**changes), dtype)


@functools.cache
def compiled(family, dtype, loop):
    options = {"sampler": jd.joint(**SAMPLER), "max_new_tokens": COLUMNS - 16}
    if loop != "stream":
        traced = trace(model(family, dtype), PROMPTS, 0, loop=loop, **options)
        return traced.lower().compile()
    return advancing(model(family, dtype), **options)


def advancing(model, **options):
    """Compile what `stream` runs for each piece."""
    request = prepare("stream", model, PROMPTS, 0, options)
    platform = current_platform()
    static = {"new_tokens_max": request.new_tokens_max, "platform": platform}
    start = functools.partial(streaming._start, **static)
    rows = jax.eval_shape(start, model, request.prompts, request.rows)
    traced = streaming._advance.trace(
        model, rows, request.pad_id, np.int32(4), platform=platform
    )
    return traced.lower().compile()


def cache_shape(family, dtype):
    return model(family, dtype).init_cache(ROWS, COLUMNS).keys[0].shape


def cache_bytes(family, dtype):
    cache = model(family, dtype).init_cache(ROWS, COLUMNS)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(cache))


@functools.cache
def loop_of(case):
    """Return the program, and the name of its decode loop's body."""
    program = Program(compiled(*case).as_text())
    shape = ",".join(map(str, cache_shape(*case[:2])))
    (body,) = program.loops_holding(shape)
    return program, body


@EACH
def test_a_step_neither_copies_nor_transposes_nor_converts_a_cache(case):
    program, body = loop_of(case)
    layer = math.prod(cache_shape(*case[:2]))
    assert moves_as_large_as(program.text_of(program.reached(body)), layer) == []


@EACH
def test_nothing_is_sorted_but_in_a_branch_that_is_rarely_taken(case):
    program, body = loop_of(case)
    always = program.reached(body, through_branches=False)
    assert program.of_kind("sort", always) == []
    # The guard sees sorts at all: the last window is the whole row.
    rarely = program.of_kind("sort", program.reached(body))
    of_tokens = [line for line in rarely if max(widths(line)) > ROWS]  # not of the rows
    assert of_tokens
    assert {max(widths(line)) for line in of_tokens} == {VOCAB}


@EACH
def test_no_random_number_is_made_in_a_rolled_loop(case):
    program, body = loop_of(case)
    always = program.reached(body, through_branches=False)
    assert program.of_kind("while", always) == []
    # A branch may go through its rows in parts; a rolled threefry carries its rotations.
    loops = program.of_kind("while", program.reached(body))
    assert [line for line in loops if "u32[4]" in line] == []


def test_the_guard_knows_a_rolled_random_loop():
    draw = jax.jit(lambda key: jax.random.gumbel(key, (4096,)))
    text = draw.lower(jax.random.key(0)).compile().as_text()
    assert any("while(" in line and "u32[4]" in line for line in text.splitlines())


@EACH
def test_what_is_held_beside_weights_and_cache_is_one_layer_and_some_scores(case):
    family, dtype, loop = case
    cache = cache_bytes(family, dtype)
    # bfloat16 words become numbers one layer at a time; float32 needs no such room.
    room = 32_000 + (0 if dtype == "float32" else cache // LAYERS)
    if loop != "stream":  # which does not read the prompt, and was given its cache
        room += cache + 2 * 4 * ROWS * PLAIN.num_heads * 16 * COLUMNS
    assert compiled(*case).memory_analysis().temp_size_in_bytes < room


@pytest.mark.parametrize("case", params(c for c in CASES if c[2] == "stream"))
def test_the_stream_advances_in_the_place_of_its_state(case):
    memory = compiled(*case).memory_analysis()
    assert memory.alias_size_in_bytes >= cache_bytes(*case[:2])


def test_the_guards_notice_a_sort_a_copy_and_a_rolled_random_loop():
    def step(carry):
        count, key, cache = carry
        key, noise_key = jax.random.split(key)
        noise = jax.random.bits(noise_key, (ROWS, VOCAB))
        cache = jnp.swapaxes(jnp.swapaxes(cache + 1, 0, 1).at[0, 0].set(2.0), 0, 1)
        return count + jnp.sort(noise, axis=1)[0, 0], key, cache

    def loop(key, cache):
        return jax.lax.while_loop(lambda c: c[0] < 5, step, (jnp.uint32(0), key, cache))

    compiled = jax.jit(loop).lower(jax.random.key(0), jnp.ones((11, 13))).compile()
    program = Program(compiled.as_text())
    (body,) = program.loops_holding("11,13")
    always = program.reached(body, through_branches=False)
    assert [max(widths(line)) for line in program.of_kind("sort", always)] == [VOCAB]
    assert program.of_kind("while", always) != []
    assert moves_as_large_as(program.text_of(always), 11 * 13) != []
