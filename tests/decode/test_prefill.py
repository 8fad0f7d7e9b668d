"""Prompts read in chunks: the same logits as read at once, for any model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.numerics import UNROLLED_MAX, prefix_sum
from jaxdecode.core.platform import CPU
from jaxdecode.decode import prefilling as prefills
from jaxdecode.decode import trace
from jaxdecode.decode.beam.caches import read_prompts
from jaxdecode.decode.prefilling import columns_per_call, prefill
from jaxdecode.decode.prompts import Prompts
from jaxdecode.models import build, random_params
from jaxdecode.models.adapters import from_logits_function
from tests import tiny
from tests.programs import Program, axes_of, moves_as_large_as

# A row ends in the first chunk, at its last column, in the middle and in the last.
PROMPTS = [list(range(1, n + 1)) for n in (3, 16, 21, 28)]
WIDTH, CHUNK, STEPS = 32, 16, 5
DRAWN = {"sampler": tiny.PLAIN, "max_new_tokens": STEPS}


def table_logits(table, tokens):
    """Logits of each column: the sum of the table's rows up to it."""
    return jnp.cumsum(table[tokens], axis=1)


def recomputing():
    table = np.random.default_rng(1).normal(size=(tiny.VOCAB, tiny.VOCAB))
    return from_logits_function(
        table_logits,
        jnp.asarray(table, jnp.float32),
        vocab_size=tiny.VOCAB,
        max_length=tiny.COLUMNS,
    )


def opaque():
    """A model of its own: nothing that was compiled for another serves it."""
    return tiny.bag(kind=tiny.Opaque)


MODELS = {
    "llama": tiny.llama,
    "bag": tiny.bag,
    "opaque": opaque,
    "without a cache": recomputing,
    "guided": lambda: jd.guided(tiny.llama(), 1.5, [[7, 8, 9]]),
    "contrastive": lambda: jd.contrastive(tiny.llama(), tiny.bag()),
    "guided within contrastive": lambda: jd.contrastive(
        jd.guided(tiny.llama(), 1.5, [[7, 8, 9]]), tiny.bag()
    ),
}
# An opaque bag is read as one that JAX can look into; the last model holds both wrappers.
LATER = ("bag", "guided", "contrastive")
EACH_MODEL = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=[pytest.mark.slow] if name in LATER else [])
        for name, make in MODELS.items()
    ],
)


@pytest.fixture
def chunked(monkeypatch):
    """Return a function that runs `read` with chunks of some columns."""

    def call(columns, read):
        monkeypatch.setattr(prefills, "columns_per_call", lambda *_: columns)
        return read()

    return call


def arrays_of(prompts, width=WIDTH):
    tokens = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return Prompts(jnp.asarray(tokens), jnp.asarray([len(p) for p in prompts]))


def two_steps(model, prompts, columns, *, reversible=False):
    """Logits behind the prompts and behind one token more, [2, B, V]."""
    rows = prompts.tokens.shape[0]
    cache = model.init_cache(rows, columns)
    first, cache = prefill(model, prompts, cache, reversible=reversible)
    token, place = jnp.full((rows, 1), 9, jnp.int32), prompts.lengths[:, None]
    then, _ = model(token, place, cache, at=jnp.zeros((rows,), jnp.int32))
    return jnp.stack([first, then])


@EACH_MODEL
@pytest.mark.parametrize(
    "reversible", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_chunks_leave_the_logits_and_the_cache_of_a_whole_reading(
    make, reversible, chunked
):
    model, prompts = make(), arrays_of(PROMPTS)

    def read():
        inside = jax.jit(
            lambda prompts: two_steps(
                model, prompts, model.max_length, reversible=reversible
            )
        )
        return inside(prompts)

    whole = chunked(64, read)
    np.testing.assert_allclose(chunked(CHUNK, read), whole, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    "width", [37, *(pytest.param(width, marks=pytest.mark.slow) for width in (33, 47))]
)
def test_a_width_that_chunks_do_not_divide_is_read_to_its_end(width, chunked):
    model = tiny.bag()
    tokens = jnp.arange(3 * width, dtype=jnp.int32).reshape(3, width) % tiny.VOCAB
    full = Prompts(tokens, jnp.asarray([width, 5, 18]))

    def read():
        return jax.jit(lambda prompts: two_steps(model, prompts, width + 1))(full)

    whole = chunked(64, read)
    np.testing.assert_allclose(chunked(CHUNK, read), whole, rtol=1e-5, atol=1e-5)


@jax.jit
def read_alone(model, prompts):
    """Traced in chunks by the first test that calls it, and the same for all others."""
    return prefill(model, prompts, model.init_cache(1, WIDTH))[0]


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32])
def test_the_last_token_may_stand_anywhere(length, chunked):
    model = tiny.bag()
    tokens = jnp.arange(WIDTH, dtype=jnp.int32)[None, :]
    prompts = Prompts(tokens, jnp.asarray([length]))
    found = chunked(CHUNK, lambda: read_alone(model, prompts))
    if length:
        expected = tiny.forward(model)(list(range(length)))
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)
    else:
        assert np.isfinite(found).all()


def test_generate_stream_and_beams_say_what_they_say_of_a_whole_reading(chunked):
    def generated():
        return jd.generate(opaque(), PROMPTS, 3, **DRAWN).tokens

    def streamed():
        pieces = jd.stream(opaque(), PROMPTS, 3, **DRAWN)
        return np.concatenate([piece.tokens for piece in pieces], axis=1)

    def searched():
        options = {"num_beams": 3, "max_new_tokens": STEPS}
        return jd.beam_search(opaque(), PROMPTS, **options).tokens

    whole = chunked(64, generated)  # what a stream says of a whole reading too
    for read in (generated, streamed):
        np.testing.assert_array_equal(chunked(CHUNK, read), whole)
    np.testing.assert_array_equal(chunked(CHUNK, searched), chunked(64, searched))


def test_beams_that_share_their_prompt_read_in_chunks(chunked):
    model, prompts = tiny.llama(), arrays_of(PROMPTS)

    def read():
        inside = jax.jit(
            lambda prompts: read_prompts(
                model, prompts, beams=3, columns=STEPS, kind="shared"
            )[0]
        )
        return inside(prompts)

    whole = chunked(64, read)
    np.testing.assert_allclose(chunked(CHUNK, read), whole, rtol=1e-4, atol=1e-5)


def test_chunks_run_inside_the_callers_vmap(chunked):
    model, prompts = tiny.bag(), arrays_of(PROMPTS)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), prompts)

    def read():
        return jax.jit(jax.vmap(lambda prompts: two_steps(model, prompts, 40)))(both)

    whole = chunked(64, read)
    np.testing.assert_allclose(chunked(CHUNK, read), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "make", [tiny.bag, pytest.param(tiny.llama, marks=pytest.mark.slow)]
)
def test_a_reversible_reading_has_the_slope_of_a_whole_one(make, chunked):
    model, prompts = make(), arrays_of(PROMPTS)
    weight = np.random.default_rng(2).normal(size=(2, len(PROMPTS), tiny.VOCAB))

    def total(scale):
        scaled = jax.tree.map(lambda leaf: leaf * scale, model)
        logits = two_steps(scaled, prompts, 40, reversible=True)
        return jnp.sum(logits * jnp.asarray(weight, jnp.float32))

    def read():
        return jax.jit(jax.grad(lambda scale: total(scale)))(jnp.float32(1.0))

    whole = chunked(64, read)
    np.testing.assert_allclose(chunked(CHUNK, read), whole, rtol=1e-4)


def test_a_generation_over_chunks_can_be_differentiated(chunked):
    prompts, model = arrays_of(PROMPTS), tiny.bag()

    def total(scale):
        scaled = jax.tree.map(lambda leaf: leaf * scale, model)
        pair = (prompts.tokens, prompts.lengths)
        asked = {"sampler": tiny.PLAIN, "max_new_tokens": 2, "loop": "scan"}
        out = jd.generate(scaled, pair, 3, **asked)
        return jnp.sum(out.model_logprobs)

    def read():
        return jax.jit(jax.grad(lambda scale: total(scale)))(jnp.float32(1.0))

    assert np.isfinite(chunked(CHUNK, read))


def test_chunks_behind_the_longest_prompt_are_not_read(chunked):
    begins = []

    class Watched(tiny.Opaque):
        def __call__(self, tokens, positions, cache, *, at=None):
            jax.debug.callback(lambda p: begins.append(int(p)), positions[0, 0])
            return super().__call__(tokens, positions, cache, at=at)

    model, prompts = tiny.bag(kind=Watched), arrays_of(PROMPTS[:2])
    chunked(8, lambda: prefill(model, prompts, model.init_cache(2, WIDTH)))
    jax.effects_barrier()
    assert begins == [0, 8]


@pytest.mark.parametrize("rows", [1, 3, 8, 32, 100, 5000])
def test_a_call_reads_a_bounded_number_of_tokens(rows):
    columns = columns_per_call(rows, CPU)
    assert 16 <= columns <= CPU.columns_per_call
    assert columns == 16 or rows * columns <= CPU.tokens_per_call


@functools.cache
def long_reading(width):
    """The compiled `generate` for one long prompt, and the cache it fills."""
    # Two key heads: XLA 0.10.2 copies the cache of a lone row with a lone key head.
    changes = {"max_length": 4096, "num_kv_heads": 2, "num_layers": 1}
    config = dataclasses.replace(tiny.llama().thaw().config, **changes)
    model = build(config, random_params(config))
    options = {"sampler": jd.Temperature(0), "max_new_tokens": 16}
    program = trace(model, [[1] * width], 0, **options).lower().compile()
    return program, jax.eval_shape(lambda: model.init_cache(1, width + 16))


@pytest.mark.reads_program
def test_what_reading_needs_grows_with_the_columns_not_with_their_square():
    def beside_the_cache(width):
        program, cache = long_reading(width)
        held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
        return program.memory_analysis().temp_size_in_bytes - held

    assert beside_the_cache(2048) < 2.2 * beside_the_cache(1024)


@pytest.mark.reads_program
def test_neither_the_loop_over_chunks_nor_that_over_tokens_moves_the_cache():
    compiled, cache = long_reading(1024)
    program, layer = Program(compiled.as_text()), cache.keys[0].shape
    bodies = program.loops_holding(",".join(map(str, layer)))
    assert len(bodies) == 2
    for body in bodies:
        moved = moves_as_large_as(program.text_of(program.reached(body)), 1)
        assert [line for line in moved if sorted(axes_of(line)) == sorted(layer)] == []


def test_long_prefix_sums_add_in_the_order_of_short_ones():
    values = np.random.default_rng(0).random(UNROLLED_MAX + 7, np.float32)
    short = prefix_sum(jnp.asarray(values[:-7]))
    np.testing.assert_array_equal(prefix_sum(jnp.asarray(values))[:-7], short)
