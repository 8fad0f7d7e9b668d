"""Figures of a measurement follow from its times, and its limit from the bytes."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxdecode.measure import (
    Timings,
    bandwidth,
    interleave,
    machine,
    measure_decoding,
    random_prompts,
    step_bytes,
    stored_as,
)
from jaxdecode.models import SHAPES, build, random_params
from tests import tiny


def test_a_round_is_compared_with_itself():
    timings = Timings({"a": [2.0, 20.0, 200.0], "b": [1.0, 5.0, 100.0]})
    assert timings.ratio("a", "b") == 2.0
    assert timings.between("b", "a") == 15.0
    assert timings.median("a") == 20.0
    assert timings.spread("b") == (3.0, 52.5)


def test_variants_take_turns_after_one_run_that_does_not_count():
    order = []
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timings = interleave(runs, 3)
    assert "".join(order) == "ababbaab"
    assert {name: len(times) for name, times in timings.seconds.items()} == {
        "a": 3,
        "b": 3,
    }


def test_a_step_reads_every_weight_and_the_cache():
    model = tiny.llama()
    weights = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(model))
    cache = 2 * 2 * 3 * 1 * 11 * 8 * 4  # layers, k and v, rows, heads, columns, D, f32
    assert step_bytes(model, 3, 11) == weights + cache


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("native", [None, False])
def test_a_models_storage_is_named(dtype, native):
    config = SHAPES["smollm2-135m"]
    config = dataclasses.replace(config, vocab_size=37, num_layers=1)
    model = build(config, random_params(config), dtype, native=native)
    assert stored_as(model) == dtype


def test_a_model_without_arrays_counts_its_cache_alone():
    model = tiny.bag(kind=tiny.Opaque)
    assert step_bytes(model, 3, 11) == 3 * 11 * tiny.VOCAB * 4
    assert stored_as(model) == "unknown"


def test_a_measurement_is_of_what_was_asked():
    found = measure_decoding(
        tiny.llama(), batch=3, context=5, new_tokens=6, rounds=2, bandwidth=1e9
    )
    assert (found.batch, found.context, found.new_tokens) == (3, 5, 6)
    assert found.tokens_per_second > 0
    assert found.first_token_ms > 0
    least = step_bytes(tiny.llama(), 3, 8) / 1e9
    assert found.fraction_of_limit == pytest.approx(least / (found.step_ms / 1e3))
    reading = 3 * 5 / (found.first_token_ms / 1e3)
    assert found.prompt_tokens_per_second == pytest.approx(reading)


@pytest.mark.parametrize(
    ("name", "value", "low"),
    [("batch", 0, 1), ("context", 0, 1), ("new_tokens", 1, 2), ("rounds", 0, 1)],
)
def test_values_out_of_range_are_refused(name, value, low):
    asked = {"batch": 1, "context": 5, "new_tokens": 6, "rounds": 1} | {name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be >= {low}"):
        measure_decoding(tiny.llama(), bandwidth=1e9, **asked)


def test_prompts_are_ids_of_the_vocabulary():
    prompts = np.asarray(random_prompts(7, 3, 500))
    assert prompts.shape == (3, 500)
    assert set(np.unique(prompts)) == set(range(7))


def test_the_bandwidth_is_bytes_over_seconds():
    assert 1e8 < bandwidth(megabytes=64, rounds=2) < 1e13


def test_the_machine_is_named_with_versions_and_day():
    found = machine()
    named = {"processor", "cores", "device", "python", "jax", "kernels", "date"}
    assert set(found) == named
