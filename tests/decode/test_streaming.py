"""A stream's second program serves prompts of many lengths, where that costs nothing."""

import functools

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.protocol import IgnoresUnusedColumns
from jaxdecode.decode import streaming
from jaxdecode.decode.request import prepare
from jaxdecode.native import current_platform, is_available
from jaxdecode.testing import count_compiles
from tests import tiny
from tests.models.model_cases import model_of, run_at, varied

LENGTH = 600  # more than two multiples of a stream's columns, and no third one
# The kernels attend with heads of a multiple of 32.
KINDS = {"kernels": {"head_dim": 32}, "plain": {"head_dim": 8}}
SAMPLER = jd.chain(
    jd.FrequencyPenalty(0.4), jd.NoRepeatNGram(2), jd.joint(temperature=0.9, top_p=0.95)
)
needs_kernels = pytest.mark.skipif(not is_available(), reason="needs the kernels")


@functools.cache
def model(kind, dtype="float32"):
    return model_of(varied(max_length=LENGTH, **KINDS[kind]), dtype)


def prompts(*lengths):
    return [[1 + (3 * i) % 30 for i in range(length)] for length in lengths]


def columns(model, length, new):
    """Return how many columns a stream has for a prompt of so many tokens."""
    request = prepare("stream", model, prompts(length), 0, {"max_new_tokens": new})
    static = {
        "new_tokens_max": request.new_tokens_max,
        "platform": current_platform(),
    }
    start = functools.partial(streaming._start, **static)
    return jax.eval_shape(start, model, request.prompts, request.rows).tokens.shape[1]


@needs_kernels
def test_for_prompts_of_another_bucket_only_their_reading_is_compiled():
    def write(length):
        options = {"sampler": SAMPLER, "max_new_tokens": 8, "every": 3}
        return list(jd.stream(model("kernels"), prompts(length, 2), 5, **options))

    write(4)
    for length in (20, 100):
        with count_compiles() as compiles:
            write(length)
        assert [name for name in compiles.names if "advance" in name] == []
        assert compiles.count == 1, compiles.names


@needs_kernels
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lengths", [(4, 30), (250, 3), (590,)])
def test_a_stream_is_the_generation_whatever_its_columns(dtype, lengths):
    options = {"sampler": SAMPLER, "max_new_tokens": 10, "observe": ("entropy",)}
    given = model("kernels", dtype), prompts(*lengths), 5
    whole = jd.generate(*given, **options)
    pieces = list(jd.stream(*given, every=4, **options))

    def joined(name):
        return np.concatenate([getattr(piece, name) for piece in pieces], axis=1)

    np.testing.assert_array_equal(joined("tokens"), whole.tokens)
    # XLA adds up the few numbers of so small a vocabulary as each program suits it.
    for name in ("model_logprobs", "sampling_logprobs"):
        np.testing.assert_allclose(joined(name), getattr(whole, name), rtol=1e-6)
    entropy = [piece.observations["entropy"] for piece in pieces]
    wanted = whole.observations["entropy"]
    np.testing.assert_allclose(np.concatenate(entropy, axis=1), wanted, rtol=1e-6)


@needs_kernels
def test_columns_are_a_multiple_up_to_those_the_model_has():
    found = [columns(model("kernels"), n, 16) for n in (4, 120, 230, 260, 500)]
    assert found == [256, 256, 512, LENGTH, LENGTH]


def test_a_model_that_reads_unused_columns_gets_none():
    assert not model("plain").ignores_unused_columns
    assert columns(model("plain"), 4, 16) == 32
    assert not isinstance(tiny.bag(), IgnoresUnusedColumns)
    assert columns(tiny.bag(), 4, 16) == 32


@needs_kernels
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_do_not_depend_on_unused_columns(dtype):
    able = model("kernels", dtype)
    assert able.ignores_unused_columns
    tokens = np.asarray(prompts(12, 12), np.int32)
    positions, at = np.tile(np.arange(12, dtype=np.int32), (2, 1)), np.full(2, 11)
    few, many = (
        run_at(able, tokens, positions, able.init_cache(2, length), at)[0]
        for length in (12, 256)
    )
    np.testing.assert_array_equal(np.asarray(few), np.asarray(many))
