"""A sequence is a value: it can be admitted, moved and rolled back, and never notices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.pytree import replace
from jaxdecode.core.rows import own_tables, put_rows, take_rows
from jaxdecode.decode import loops, steps, trace
from jaxdecode.decode.request import prepare
from jaxdecode.decode.rows import any_running, generated_tokens
from jaxdecode.native import current_platform
from tests import tiny

COLUMNS, NEW_TOKENS = 32, 11
PLATFORM = current_platform()
SAMPLER = jd.chain(
    jd.LogitBias({3: 1.0, 5: -0.5}),
    *(jd.RepetitionPenalty(1.1), jd.FrequencyPenalty(0.4), jd.Temperature(1.3)),
    jd.Mirostat(4.0),
)
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12], [13, 14]]
BUDGETS = [11, 5, 9, 7]
MODELS = {"llama": tiny.llama, "bag": tiny.bag}
EACH_MODEL = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
# A llama's rows are moved with `EACH_MODEL`; each of the other tests would be as long.
BAG_SOON = pytest.mark.parametrize(
    "make",
    [
        pytest.param(tiny.llama, id="llama", marks=pytest.mark.slow),
        pytest.param(tiny.bag, id="bag"),
    ],
)


def options(**changes):
    return {
        "sampler": SAMPLER,
        "max_new_tokens": NEW_TOKENS,
        "stop": [[8, 8]],
        "observe": ("entropy",),
    } | changes


def started(model, prompts, keys, **changes):
    """Return rows that are ready for their first token."""
    request = prepare("test", model, prompts, keys, options(**changes))
    return start(model, request.prompts, request.rows)


@jax.jit
def start(model, prompts, rows):
    sizes = {"new_tokens_max": NEW_TOKENS, "columns": COLUMNS}
    return steps.start(model, prompts, own_tables(rows), platform=PLATFORM, **sizes)


@jax.jit
def step(model, rows):
    return steps.step(model, rows, platform=PLATFORM)


def stepped(model, rows, count):
    for _ in range(count):
        rows = step(model, rows)
    return rows


@jax.jit
def finished(model, rows):
    return loops.drive(
        lambda rows: steps.step(model, rows, platform=PLATFORM),
        rows,
        any_running,
        platform=PLATFORM,
    )


put, take = jax.jit(put_rows), jax.jit(take_rows)


def key_of(index):
    return jax.random.split(jax.random.key(5), len(PROMPTS))[index][None]


def alone(model, index, **changes):
    """Return what one prompt becomes by itself, through the public function."""
    changes = {"max_new_tokens": BUDGETS[index]} | changes
    return jd.generate(model, [PROMPTS[index]], key_of(index), **options(**changes))


def assert_is(rows, slot, lone):
    """A row of the batch holds exactly what the text alone has."""
    length = int(lone.lengths[0])
    assert int(rows.length[slot] - rows.prompt_length[slot]) == length
    assert int(rows.status[slot]) == int(lone.status[0])
    tokens = generated_tokens(rows, 0)[slot, :length]
    np.testing.assert_array_equal(tokens, lone.tokens[0, :length])
    for name in ("model_logprobs", "sampling_logprobs"):
        found = getattr(rows, name)[slot, :length]
        np.testing.assert_allclose(found, getattr(lone, name)[0, :length], atol=2e-5)
    entropy = rows.observed["entropy"][slot, :length]
    wanted = lone.observations["entropy"][0, :length]
    np.testing.assert_allclose(entropy, wanted, atol=2e-5)


@BAG_SOON
def test_rows_admitted_at_different_times_go_on_as_if_alone(make):
    model = make()
    ends = {0: [7], 1: [9], 2: [11], 3: [2]}
    biases = {i: jd.LogitBias({20 + i: 2.0, 5: -1.0}) for i in range(4)}

    def own(index):
        return {
            "eos_ids": ends[index],
            "stop": [[8, 8], [15 + index]],
            "sampler": jd.chain(biases[index], *SAMPLER.links[1:]),
            "max_new_tokens": BUDGETS[index],
        }

    def one(index):
        return started(model, [PROMPTS[index]], key_of(index), **own(index))

    keys = key_of(jnp.asarray([0, 0, 0, 0]))[0]
    rows = started(model, [PROMPTS[0]] * 4, keys, **own(0))
    rows = put(rows, 1, one(1))
    rows = stepped(model, rows, 2)
    rows = put(rows, 2, one(2))
    rows = stepped(model, rows, 4)
    assert int(rows.status[1]) != jd.Status.RUNNING
    first, rows = take(rows, np.asarray([1])), put(rows, 1, one(3))
    rows = finished(model, rows)
    for slot, index in ((0, 0), (2, 2), (1, 3)):
        assert_is(rows, slot, alone(model, index, **own(index)))
    assert_is(first, 0, alone(model, 1, **own(1)))


@EACH_MODEL
def test_moved_and_doubled_rows_go_on_as_if_alone(make):
    model = make()
    keys = jax.random.split(jax.random.key(5), len(PROMPTS))
    rows = started(model, PROMPTS, keys, max_new_tokens=BUDGETS)
    rows = stepped(model, rows, 3)
    order = [3, 0, 0, 2]
    rows = finished(model, take(rows, np.asarray(order)))
    for slot, index in enumerate(order):
        assert_is(rows, slot, alone(model, index))


@BAG_SOON
def test_a_row_that_is_rolled_back_draws_the_same_tokens_again(make):
    model = make()
    keys = jax.random.split(jax.random.key(5), len(PROMPTS))
    then = stepped(model, started(model, PROMPTS, keys, max_new_tokens=BUDGETS), 2)
    now = stepped(model, then, 2)
    back = jnp.asarray([True, False, True, False])
    undone = {
        name: jnp.where(back, getattr(then, name), getattr(now, name))
        for name in ("length", "status", "cursor")
    }
    links = jax.tree.map(
        lambda old, new: jnp.where(back.reshape(-1, *[1] * (new.ndim - 1)), old, new),
        then.links,
        now.links,
    )
    rows = replace(now, **undone, links=links, unread=jnp.ones_like(back))
    rows = finished(model, rows)
    for index in range(len(PROMPTS)):
        assert_is(rows, index, alone(model, index))


def test_the_program_can_be_examined_without_weights():
    model = tiny.llama()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), model)
    asked = {"max_new_tokens": 4, "sampler": jd.joint(top_k=3)}
    abstract = trace(shapes, PROMPTS, 0, **asked)
    concrete = trace(model, PROMPTS, 0, **asked)
    assert abstract.lower().as_text() == concrete.lower().as_text()


forward = jax.jit(steps.forward, static_argnames="reversible")


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("read", [[], [0], [1, 3], [0, 1, 2, 3]])
def test_a_row_without_an_unread_token_keeps_the_logits_of_its_prompt(read, reversible):
    model, count = tiny.bag(), len(PROMPTS)
    keys = jax.random.split(jax.random.key(5), count)
    rows = stepped(model, started(model, PROMPTS, keys, max_new_tokens=BUDGETS), 1)
    unread = jnp.zeros((count,), bool).at[jnp.asarray(read, jnp.int32)].set(True)
    marked = jnp.arange(count * tiny.VOCAB, dtype=jnp.float32).reshape(count, -1)
    rows = replace(rows, unread=unread, logits=marked)
    _, logits = forward(model, rows, reversible=reversible)
    for row, prompt in enumerate(PROMPTS):
        text = [*prompt, int(rows.tokens[row, len(prompt)])]
        wanted = tiny.forward(model)(text) if row in read else marked[row]
        np.testing.assert_allclose(logits[row], wanted, atol=1e-5)


def test_a_row_that_has_ended_keeps_its_place_among_the_stop_strings():
    stops = jd.Stops.of([], ["a" * 30], [b"a"] * tiny.VOCAB)
    keys = jax.random.split(jax.random.key(5), 2)
    options = {"max_new_tokens": [2, 6], "stop": stops, "eos_ids": None}
    rows = started(tiny.bag(), PROMPTS[:2], keys, **options)
    rows = finished(tiny.bag(), rows)
    assert rows.cursor.tolist() == [2, 6]  # one state for each letter that was read
