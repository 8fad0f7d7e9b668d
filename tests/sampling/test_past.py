"""Edits of the past alone, put into rows by a kernel, are the edits of whole rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.platform import CPU
from jaxdecode.core.pytree import pytree
from jaxdecode.native import current_platform, is_available, put_and_survey
from jaxdecode.sampling import draw, init_rows
from jaxdecode.sampling.calls import _contexts
from jaxdecode.sampling.past import _edit_plainly, changes_past, edit_past
from jaxdecode.sampling.processing import edit
from jaxdecode.transforms import Edit
from tests.rows import batch

V, T = 5003, 11
ROWS = batch(V)
COUNT = len(ROWS)
RANDOM = np.random.default_rng(0)
PROMPTS = [RANDOM.integers(0, 40, n).tolist() for n in range(COUNT)]
NEW = [[5, 5, 9, int(np.nanargmax(row)), V - 1] for row in ROWS]
CHAINS = {
    "all penalties": jd.joint(
        repetition_penalty=1.3, frequency_penalty=0.4, presence_penalty=0.7, top_k=40
    ),
    "windows": jd.chain(
        jd.RepetitionPenalty(1.7, window=3), jd.FrequencyPenalty(-0.3, window=2)
    ),
    "the source": jd.chain(jd.EncoderRepetition(1.4), jd.PresencePenalty(2.0)),
    "one row of all": jd.joint(
        repetition_penalty=np.where(np.arange(COUNT) == 4, 1.9, 1.0), top_p=0.8
    ),
    "nothing": jd.joint(),
}

pytestmark = pytest.mark.skipif(not is_available(), reason="needs the kernels")


@functools.partial(jax.jit, static_argnames="platform")
def both(chain, rows, contexts, platform):
    states = init_rows(chain, contexts)
    whole = edit(chain, rows, contexts, states)
    assert changes_past(chain, V, contexts, platform)
    plain = _edit_plainly(chain.head, rows, contexts, states[: len(chain.head)])
    return whole, plain, edit_past(chain, rows, contexts, states, platform=platform)


@functools.partial(jax.jit, static_argnames="platform")
def drawn(chain, rows, contexts, platform):
    states = init_rows(chain, contexts)
    return draw(chain, rows, contexts, states, own=True, platform=platform)


def contexts_of(rows=ROWS):
    keys = jax.random.split(jax.random.key(3), len(rows))
    given = PROMPTS[: len(rows)], NEW[: len(rows)]
    return _contexts("test", rows, *given, keys)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param(name, count, marks=[] if soon else [pytest.mark.slow])
        for name in CHAINS
        for count in (1, COUNT)
        for soon in [count == COUNT or name == "all penalties"]
    ],
)
def test_the_rows_are_those_of_the_whole_edit(name, count):
    rows, contexts = ROWS[-count:], contexts_of(ROWS[-count:])
    chain = CHAINS[name].per_row(COUNT)
    chain = jax.tree.map(lambda leaf: leaf[-count:], chain)
    given = chain, jnp.asarray(rows), contexts
    whole, plain, (raw, edited, past) = both(*given, current_platform())
    assert np.array_equal(edited.rows, whole)
    assert np.array_equal(plain[0], whole)
    assert np.array_equal(edited.maxima, plain[3])
    np.testing.assert_allclose(edited.log_z, plain[4], rtol=1e-6, atol=1e-6)
    assert np.array_equal(raw.maxima[:, 0], rows.max(axis=1))
    np.testing.assert_allclose(raw.log_z, plain[2], rtol=1e-6, atol=1e-6)
    for token in (5, 9, V - 1, 77):
        tokens = jnp.full((count,), token, jnp.int32)
        assert np.array_equal(past.take(tokens), rows[:, token])


@pytest.mark.parametrize("name", ["all penalties", "one row of all", "nothing"])
def test_the_draw_is_that_of_a_machine_without_kernels(name):
    given = CHAINS[name].per_row(COUNT), ROWS, contexts_of()
    got, wanted = (drawn(*given, platform) for platform in (current_platform(), CPU))
    assert np.array_equal(got.token, wanted.token)
    assert np.array_equal(got.valid, wanted.valid)
    for one in ("logprob", "own_logprob"):
        pair = getattr(got, one), getattr(wanted, one)
        np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-5)


def test_rows_that_cannot_be_sampled_are_noticed():
    rows = ROWS.copy()
    rows[0, 5], rows[1, 77], rows[2] = np.nan, np.inf, -np.inf
    chain = CHAINS["all penalties"].per_row(COUNT)
    got = drawn(chain, rows, contexts_of(), current_platform())
    assert got.valid.tolist() == [row not in (0, 1, 2) for row in range(COUNT)]


def test_rows_that_are_read_again_keep_their_values():
    @jax.jit
    def run(rows):
        ids = jnp.full((len(ROWS), 2), 7, jnp.int32)
        new, *_ = put_and_survey(rows, ids, jnp.full(ids.shape, 9.0), 128)
        return new, rows + 0.0

    new, old = run(ROWS)
    assert np.array_equal(old, ROWS)
    assert (new[:, 7] == 9.0).all()


def test_under_vmap_each_item_has_rows_of_its_own():
    ids = jnp.asarray([[[3], [3]], [[4], [V]], [[-1], [5]]], jnp.int32)
    values = jnp.full(ids.shape, 99.0)
    put = jax.vmap(lambda i, v: put_and_survey(jnp.asarray(ROWS[:2]), i, v, 128))
    rows, best, *_, maxima, _ = jax.jit(put)(ids, values)
    assert best.tolist() == [ROWS[:2].max(axis=1).tolist()] * 3
    for item, row in np.ndindex(3, 2):
        wanted = ROWS[row].copy()
        if 0 <= ids[item, row, 0] < V:
            wanted[ids[item, row, 0]] = 99.0
        assert np.array_equal(rows[item, row], wanted)
        assert maxima[item, row].max() == wanted.max()


@pytest.mark.parametrize("name", ["all penalties", "hot"])
def test_rows_may_differ_between_devices(name):
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("rows",))
    each = functools.partial(drawn.__wrapped__, platform=current_platform())
    along = jax.sharding.PartitionSpec("rows")
    split = jax.shard_map(each, mesh=mesh, in_specs=along, out_specs=along)
    chain = CHAINS.get(name, jd.joint(temperature=1.7)).per_row(COUNT)
    found = jax.eval_shape(split, chain, jnp.asarray(ROWS), contexts_of())
    assert found.token.shape == (COUNT,)


def test_slopes_are_those_of_whole_rows():
    rows, contexts = ROWS[:3], contexts_of(ROWS[:3])

    @functools.partial(jax.jit, static_argnums=2)
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes_of(penalty, rows, platform):
        chain = jd.chain(jd.FrequencyPenalty(penalty)).per_row(3)
        got = drawn(chain, rows, contexts, platform)
        return (got.logprob + 2 * got.own_logprob).sum()

    for penalty in (0.0, 0.6):
        slopes = [
            slopes_of(jnp.float32(penalty), rows, platform)
            for platform in (current_platform(), CPU)
        ]
        assert abs(slopes[0][0]) > 1e-6
        for got, wanted in zip(*slopes, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def is_past(chain, width=T):
    lengths = jnp.zeros((1,), jnp.int32)
    tokens = jnp.zeros((1, width), jnp.int32)
    contexts = jd.Context(tokens, lengths, lengths, None, V)
    return changes_past(chain, V, contexts, current_platform())


def test_other_edits_and_long_pasts_are_edited_whole():
    assert is_past(CHAINS["all penalties"])
    assert not is_past(jd.chain())
    assert not is_past(jd.chain(jd.PresencePenalty(1.0), jd.LogitBias({3: 1.0})))
    assert not is_past(CHAINS["all penalties"], width=V // 31)


def test_a_subclass_with_a_rule_of_its_own_is_not_taken_for_its_parent():
    @pytree
    class Everywhere(jd.FrequencyPenalty):
        def __call__(self, logits, context, state):
            return logits - logits[::-1]

    @pytree
    class Declared(jd.FrequencyPenalty):
        only_past = True

        def __call__(self, logits, context, state):
            return logits - state

    class Renamed(jd.FrequencyPenalty):
        pass

    assert Edit.only_past is Everywhere.only_past is False
    assert Declared.only_past is Renamed.only_past is True
    assert not is_past(jd.chain(Everywhere(1.0)))
