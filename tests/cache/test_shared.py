"""A cache shared by beams follows parents by its rows, and forgets what is undone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core.pytree import replace
from jaxdecode.core.rows import take_rows
from tests import tiny

PROMPTS = np.asarray([[1, 2, 3, 0], [4, 5, 6, 7]], np.int32)
LENGTHS = np.asarray([3, 4], np.int32)
BEAMS, COLUMNS = 3, 5


@jax.jit
def begin(model):
    positions = jnp.broadcast_to(jnp.arange(4, dtype=jnp.int32), PROMPTS.shape)
    _, read = model(PROMPTS, positions, model.init_cache(2, 4), at=LENGTHS - 1)
    return model.share_prompts(read, jnp.asarray(LENGTHS), beams=BEAMS, columns=COLUMNS)


@jax.jit
def read(model, tokens, positions, cache):
    return model(tokens, positions, cache, at=jnp.zeros(len(tokens), jnp.int32))


class Beams:
    """The beams of two prompts, read token by token."""

    def __init__(self, model):
        self.model, self.length = model, 0
        self.cache = begin(model)

    def read(self, tokens, parents=None):
        if parents is not None:
            self.cache = take_rows(self.cache, jnp.asarray(parents))
        positions = np.repeat(LENGTHS + self.length, BEAMS)[:, None].astype(np.int32)
        tokens = np.asarray(tokens, np.int32)[:, None]
        logits, self.cache = read(self.model, tokens, positions, self.cache)
        self.length += 1
        return np.asarray(logits)


TOKENS = [[8, 9, 10, 11, 12, 13], [14, 15, 16, 17, 18, 19], [20, 21, 22, 23, 24, 25]]
PARENTS = [0, 0, 1, 5, 3, 3]


@pytest.fixture(scope="module")
def model():
    return tiny.llama()


def test_a_token_that_is_read_again_gives_the_same_logits(model):
    beams = Beams(model)
    beams.read(TOKENS[0])
    first = beams.read(TOKENS[1], PARENTS)
    beams.length -= 1
    np.testing.assert_array_equal(beams.read(TOKENS[1]), first)


def test_steps_that_are_undone_leave_no_trace(model):
    straight, other = Beams(model), Beams(model)
    for beams in (straight, other):
        beams.read(TOKENS[0])
    path = other.cache.path
    other.read(TOKENS[2], [2, 1, 0, 4, 4, 4])
    other.read(TOKENS[1], [1, 1, 1, 3, 5, 4])
    other.length -= 2
    np.testing.assert_array_equal(other.cache.path[:, 0], path[[1, 1, 1, 4, 4, 4], 0])
    # The paths are the beams' own again: what they went through comes back with them.
    other.cache = replace(other.cache, path=path)
    np.testing.assert_array_equal(
        other.read(TOKENS[1], PARENTS), straight.read(TOKENS[1], PARENTS)
    )


@pytest.mark.parametrize("back", [1, 2])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_prompt_token_that_is_read_again_sees_the_prompt_up_to_itself_only(
    model, steps, back
):
    beams = Beams(model)
    for tokens in TOKENS[:steps]:
        beams.read(tokens)
    beams.length = -back
    found = beams.read(np.repeat(PROMPTS[[0, 1], LENGTHS - back], BEAMS))
    for beam, logits in enumerate(found):
        row = beam // BEAMS
        wanted = tiny.forward(model)(PROMPTS[row, : LENGTHS[row] - back + 1].tolist())
        np.testing.assert_allclose(logits, wanted, atol=2e-5)


def test_two_steps_that_are_undone_without_turning_to_a_parent_leave_no_trace(model):
    straight, other = Beams(model), Beams(model)
    for beams in (straight, other):
        beams.read(TOKENS[0])
    other.read(TOKENS[2])
    other.read(TOKENS[1])
    other.length -= 2
    np.testing.assert_array_equal(
        other.read(TOKENS[1], PARENTS), straight.read(TOKENS[1], PARENTS)
    )


def test_a_beam_continues_the_tokens_of_its_parent(model):
    beams = Beams(model)
    beams.read(TOKENS[0])
    found = beams.read(TOKENS[1], PARENTS)
    for beam, parent in enumerate(PARENTS):
        row = beam // BEAMS
        text = [*PROMPTS[row, : LENGTHS[row]], TOKENS[0][parent], TOKENS[1][beam]]
        wanted = tiny.forward(model)(text)
        np.testing.assert_allclose(found[beam], wanted, atol=2e-5)
