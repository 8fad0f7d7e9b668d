"""A window of candidates gives what the sorted row gives, bit for bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.platform import CPU, GPU
from jaxdecode.sampling import draw, init_rows
from jaxdecode.sampling.calls import _contexts
from jaxdecode.sampling.order import arg_max, top_k
from jaxdecode.sampling.stats import row_stats
from jaxdecode.sampling.window import PAIRS_MAX, Batch, Found, _id_of_best, draw_all
from tests.rows import kinds

VOCAB = 5003
KINDS = kinds(VOCAB)
ROWS = np.stack(list(KINDS.values()))
COUNT = len(ROWS)
categorical = jax.jit(jax.vmap(jax.random.categorical))


def own_order(t=1.0, p=1.0, k=0, m=0.0, kept=1):
    return jd.chain(
        jd.Temperature(t),
        jd.TopP(p, min_keep=kept),
        jd.TopK(k, ties="keep"),
        jd.MinP(m, min_keep=kept),
    )


SAMPLERS = {
    "top-k": jd.joint(top_k=50, temperature=0.8),
    "top-p": jd.joint(top_p=0.9),
    "narrow top-p": jd.joint(top_p=0.2, temperature=3.0),
    "min-p": jd.joint(min_p=0.05),
    "k then p": jd.joint(top_k=200, top_p=0.95, min_p=0.01, temperature=1.2),
    "tied top-k": own_order(k=40, t=0.9),
    "p then k": own_order(t=2.0, p=0.8, k=30),
    "kept at least": own_order(p=0.1, m=0.9, kept=70),
}


@functools.partial(jax.jit, static_argnums=3)
def run(chain, rows, contexts, windows):
    states = init_rows(chain, contexts)
    return draw(chain, rows, contexts, states, windows=windows)


def drawn(sampler, rows, seed=0, windows=(8, 64, 1024)):
    keys = jax.random.split(jax.random.key(seed), len(rows))
    contexts = _contexts("test", rows, None, None, keys)
    result = run(sampler.per_row(COUNT), rows, contexts, windows)
    return keys, jax.tree.map(np.asarray, result)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_window_draws_categorical_of_the_sorted_row(name):
    processed = jd.apply(SAMPLERS[name], ROWS)
    logprobs = np.asarray(jax.nn.log_softmax(processed, axis=1))
    for seed in range(3):
        keys, got = drawn(SAMPLERS[name], ROWS, seed)
        expected = categorical(keys, processed)
        assert got.token.tolist() == expected.tolist()
        np.testing.assert_allclose(
            got.logprob, logprobs[np.arange(COUNT), expected], rtol=1e-5, atol=1e-5
        )


def test_a_chain_may_be_a_constant_of_the_callers_program():
    sampler, rows = SAMPLERS["top-p"], ROWS[:5]
    keys = jax.random.split(jax.random.key(2), 5)
    contexts = _contexts("test", rows, None, None, keys)
    chain = sampler.per_row(5)
    constant = jax.jit(lambda rows: run.__wrapped__(chain, rows, contexts, (8, 64)))
    assert constant(rows).token.tolist() == jd.sample(sampler, rows, keys).tolist()


OTHERS = {
    "typical": jd.Typical(0.3),
    "eta and n-sigma": jd.chain(jd.EtaCutoff(0.01), jd.TopNSigma(2.0)),
    "dynamic": jd.chain(
        jd.TopNSigma(3.0), jd.DynamicTemperature(0.5, 1.5), jd.PLess(), jd.TopH(0.9)
    ),
    "tail-free": jd.chain(jd.TopK(300), jd.TailFree(0.97), jd.Quadratic(0.2, 1.5)),
    "typical, then p": jd.chain(jd.Typical(0.9), jd.TopP(0.7), jd.TopA(0.01)),
}


# Every truncation alone is tried on windows by the laws of links.
@pytest.mark.parametrize(
    "name",
    [
        *("dynamic", "typical, then p"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("typical", "eta and n-sigma", "tail-free")
        ),
    ],
)
def test_a_window_serves_every_kind_of_truncation(name):
    processed = jd.apply(OTHERS[name], ROWS)
    keys, got = drawn(jd.chain(OTHERS[name]), ROWS, 1, windows=(128,))
    assert got.token.tolist() == categorical(keys, processed).tolist()


NEIGHBOURS = {
    "needs the sorted row": lambda: KINDS["flat"],
    "holds a NaN": lambda: np.where(np.arange(VOCAB) == 9, np.nan, KINDS["normal"]),
    "is banned": lambda: np.full(VOCAB, -np.inf),
}


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("name", ["top-p", "k then p"])
def test_a_neighbour_does_not_change_a_row_by_one_bit(name, neighbour):
    calm = np.stack([KINDS["peaked"]] * COUNT)
    disturbed = calm.copy()
    disturbed[5] = NEIGHBOURS[neighbour]().astype(np.float32)
    alone = drawn(SAMPLERS[name], calm)[1]
    beside = drawn(SAMPLERS[name], disturbed)[1]
    others = np.arange(COUNT) != 5
    assert np.array_equal(beside.token[others], alone.token[others])
    assert np.array_equal(beside.logprob[others], alone.logprob[others])


def left_after(sampler, size):
    """What a window of a size leaves to larger ones, and how large they must be."""
    chain, keys = sampler.per_row(COUNT), jax.random.split(jax.random.key(0), COUNT)
    contexts = _contexts("test", ROWS, None, None, keys)

    @jax.jit
    def tried(chain, rows, contexts):
        stats = row_stats(rows, platform=CPU, with_log_z=True)
        states = init_rows(chain, contexts)
        nothing = Found(jnp.zeros(COUNT, jnp.int32), jnp.zeros(COUNT, jnp.float32))
        batch = Batch(chain, stats, contexts, states)
        return draw_all(size, batch, stats.valid, nothing)

    left, _, least = tried(chain, jnp.asarray(ROWS), contexts)
    return np.asarray(left), np.asarray(least)


@pytest.mark.parametrize("name", ["top-p", "kept at least"])
def test_a_window_that_is_too_small_says_how_large_it_must_be_at_least(name):
    kept = np.isfinite(jd.apply(SAMPLERS[name], ROWS)).sum(axis=1)
    left, least = left_after(SAMPLERS[name], 8)
    assert left.any()
    assert (least[left] <= kept[left] + 1).all()
    assert (least[~left] <= 8).all()


def test_flat_rows_pass_by_the_windows_that_cannot_hold_them():
    flat = list(KINDS).index("flat")
    left, least = left_after(SAMPLERS["top-p"], 64)
    assert left[flat]
    np.testing.assert_allclose(least[flat], 0.9 * VOCAB, rtol=1e-3)
    left, least = left_after(jd.joint(top_k=300), 64)
    assert left.any()
    assert (least[left] == 300).all()


@pytest.mark.parametrize("kind", KINDS)
def test_chunked_top_k_orders_by_value_then_id(kind):
    row = KINDS[kind]
    order = np.lexsort((np.arange(VOCAB), -row.astype(np.float64)))
    for k in (1, 5, 17):
        values, ids = jax.jit(top_k, static_argnums=1)(row, k)
        assert ids.tolist() == order[:k].tolist()
        assert np.array_equal(values, row[order[:k]])


@pytest.mark.parametrize("kind", KINDS)
def test_chunked_arg_max_takes_the_first_maximum(kind):
    assert int(arg_max(KINDS[kind])) == int(np.argmax(KINDS[kind]))


@pytest.mark.parametrize("count", [70, PAIRS_MAX, PAIRS_MAX + 1])
@pytest.mark.parametrize("low", [0.0, -np.inf])
def test_one_reduction_finds_the_token_that_two_find(low, count):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (40, count)).astype(np.float32)  # ties everywhere
    scores[0], scores[1:20, ::2] = low, low
    ids = np.stack([rng.permutation(5000)[:count] for _ in scores]).astype(np.int32)
    found = [
        jax.vmap(lambda s, i, to=platform: _id_of_best(s, i, 5000, to))(scores, ids)
        for platform in (CPU, GPU)
    ]
    first = [min(i[s == s.max()]) for s, i in zip(scores, ids, strict=True)]
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], first)
    assert (CPU.reduces_pairs, GPU.reduces_pairs) == (True, False)
