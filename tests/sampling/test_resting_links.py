"""Links that are off for a whole batch are passed by, and nothing else changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxdecode as jd
from jaxdecode.core.pytree import pytree
from jaxdecode.sampling import draw, init_rows
from jaxdecode.sampling.calls import _contexts
from jaxdecode.transforms import Edit
from tests.rows import V, batch

ROWS = batch()
COUNT = len(ROWS)
PAST = [[1, 5, 5, 9]] * COUNT
NEUTRAL = {"repetition_penalty": 1.0, "frequency_penalty": 0.0}
ACTING = {"repetition_penalty": 1.3, "frequency_penalty": 0.4}
KINDS_OF_WORK = ({}, {"temperature": 0.7}, {"top_p": 0.8}, {"temperature": 0.0})


@functools.partial(jax.jit, static_argnames="own")
def run(chain, rows, contexts, own):
    states = init_rows(chain, contexts)
    return draw(chain, rows, contexts, states, own=own)


def drawn(sampler, rows=ROWS, own=True):
    keys = jax.random.split(jax.random.key(3), COUNT)
    contexts = _contexts("test", rows, None, PAST, keys)
    return jax.tree.map(np.asarray, run(sampler.per_row(COUNT), rows, contexts, own))


def test_a_row_does_not_feel_that_its_neighbour_has_penalties():
    at = {
        name: np.where(np.arange(COUNT) == 4, ACTING[name], NEUTRAL[name])
        for name in NEUTRAL
    }
    for settings in KINDS_OF_WORK:
        alone, beside = drawn(jd.joint(**settings)), drawn(jd.joint(**settings, **at))
        others = np.arange(COUNT) != 4
        for name in ("token", "logprob", "own_logprob"):
            same = getattr(alone, name)[others] == getattr(beside, name)[others]
            assert same.all(), (settings, name)


def test_what_was_known_of_a_row_serves_only_while_it_holds():
    keys = jax.random.split(jax.random.key(3), COUNT)
    for settings in KINDS_OF_WORK[:3]:
        sampler = jd.joint(**settings, **ACTING)
        processed = jd.apply(sampler, ROWS, generated=PAST)
        got = drawn(sampler)
        expected = jax.vmap(jax.random.categorical)(keys, processed)
        assert got.token.tolist() == expected.tolist()
        at = np.arange(COUNT), got.token
        logprobs = jax.nn.log_softmax(processed, axis=1)[at]
        np.testing.assert_allclose(got.logprob, logprobs, rtol=1e-5, atol=1e-5)
        own = jax.nn.log_softmax(ROWS, axis=1)[at]
        np.testing.assert_allclose(got.own_logprob, own, rtol=1e-5, atol=1e-5)


def test_the_same_tokens_come_with_and_without_the_models_logprob():
    for settings in (*KINDS_OF_WORK, ACTING):
        sampler = jd.joint(**settings)
        assert np.array_equal(drawn(sampler).token, drawn(sampler, own=False).token)


@pytree
class Push(Edit):
    """A link that never says whether it is off."""

    def __call__(self, logits, context, state):
        return jnp.where(logits > -jnp.inf, -1.0, logits).at[7].set(100.0)


def test_a_link_that_cannot_say_always_acts():
    sampler = jd.chain(jd.FrequencyPenalty(0.0), Push(), jd.PresencePenalty(0.0))
    finite = np.isfinite(ROWS[:, 7])
    assert (drawn(sampler).token[finite] == 7).all()


@pytree
class Lazy(Edit):
    """A link that would do harm if it ran."""

    def __call__(self, logits, context, state):
        return jnp.full_like(logits, jnp.nan)

    def is_off(self):
        return True


def test_links_that_are_all_off_do_not_run():
    plain = drawn(jd.chain())
    lazy = drawn(jd.chain(jd.FrequencyPenalty(0.0), Lazy()))
    assert lazy.valid.all()
    assert np.array_equal(lazy.token, plain.token)


def test_an_edit_that_makes_a_row_invalid_is_noticed():
    ban = jd.chain(jd.FrequencyPenalty(0.0), jd.BanTokens(list(range(V))))
    assert not drawn(ban).valid.any()
    assert not drawn(ban, own=False).valid.any()


def slope_of(build):
    """The slope of the log-probs of drawn tokens by a parameter, as a function of it."""
    keys = jax.random.split(jax.random.key(3), 3)
    contexts = _contexts("test", ROWS[:3], None, PAST[:3], keys)

    def total(value):
        chain = build(value).per_row(3)
        return run(chain, ROWS[:3], contexts, True).logprob.sum()

    slope = jax.jit(jax.grad(total))
    return lambda at: slope(jnp.float32(at))


def test_a_neutral_penalty_has_a_slope():
    slope = slope_of(lambda x: jd.joint(frequency_penalty=x))
    near = slope(1e-6)
    assert abs(near) > 1e-3
    np.testing.assert_allclose(slope(0.0), near, rtol=1e-3)


def test_a_neutral_temperature_has_a_slope():
    slope = slope_of(lambda x: jd.joint(temperature=x))
    near = slope(1.00001)
    assert abs(near) > 1e-3
    np.testing.assert_allclose(slope(1.0), near, rtol=1e-2)
