"""One value says what a draw is compiled for; every value draws the same tokens."""

import functools

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.platform import CPU, GPU, TPU
from jaxdecode.sampling import draw, init_rows, process
from jaxdecode.sampling.calls import _contexts
from tests.rows import kinds

VOCAB = 5003
KINDS = kinds(VOCAB)
ROWS = np.stack([*KINDS.values(), *KINDS.values()])  # more rows than a group has
COUNT = len(ROWS)
SAMPLERS = {
    "plain": jd.joint(),
    "greedy": jd.joint(temperature=0.0),
    "top-p": jd.joint(top_p=0.9, temperature=1.3),
    "mixed rows": jd.joint(top_k=[0, 40, 900] * 8, top_p=[0.8, 1.0] * 12),
    "an edit behind a truncation": jd.chain(jd.TopK(70), jd.LogitBias({5: 2.0})),
    "feedback": jd.Mirostat(4.0),
}


@functools.partial(jax.jit, static_argnames="platform")
def run(chain, rows, contexts, platform):
    states = init_rows(chain, contexts)
    drawn = draw(chain, rows, contexts, states, platform=platform)
    return drawn, process(chain, rows, contexts, states, platform=platform)


def drawn_for(platform, sampler):
    keys = jax.random.split(jax.random.key(8), COUNT)
    contexts = _contexts("test", ROWS, None, None, keys)
    return run(jd.chain(sampler).per_row(COUNT), ROWS, contexts, platform)


def later(name, platform):
    """A GPU's draws differ from a TPU's in how rows are passed over: not by sampler."""
    soon = platform is TPU or name == "mixed rows"
    return [] if soon else pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "platform"),
    [
        pytest.param(name, on, id=f"{name}-{on.kind}", marks=later(name, on))
        for name in SAMPLERS
        for on in (GPU, TPU)
    ],
)
def test_another_platform_draws_the_same_tokens(name, platform):
    expected, expected_rows = drawn_for(CPU, SAMPLERS[name])
    got, rows = drawn_for(platform, SAMPLERS[name])
    assert got.token.tolist() == expected.token.tolist()
    np.testing.assert_allclose(got.logprob, expected.logprob, rtol=1e-5, atol=1e-5)
    assert np.array_equal(rows, expected_rows)


@pytest.mark.parametrize(
    "name", ["mixed rows", "an edit behind a truncation", "feedback"]
)
def test_a_draw_for_a_given_platform_never_asks_which_one_runs(name, monkeypatch):
    def fail(*_):
        raise AssertionError("asked while tracing")

    keys = jax.random.split(jax.random.key(8), COUNT)
    contexts = _contexts("test", ROWS, None, None, keys)
    chain = jd.chain(SAMPLERS[name]).per_row(COUNT)
    for module in ("drawing", "processing", "order"):
        monkeypatch.setattr(f"jaxdecode.sampling.{module}.current_platform", fail)
    monkeypatch.setattr(jax, "default_backend", fail)
    jax.make_jaxpr(lambda rows: run.__wrapped__(chain, rows, contexts, TPU))(ROWS)
