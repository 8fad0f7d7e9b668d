"""After `warm_up` no call of those sizes compiles anything."""

import pytest

import jaxdecode as jd
from tests import tiny
from tests.models.toys import LENGTH, SIZES, batched, make_params

MODEL = jd.from_logits_function(batched, make_params(), **SIZES)
OPTIONS = {"eos_ids": [3], "num_samples": 2}


def test_calls_of_the_sizes_named_compile_nothing():
    sampler = jd.Temperature(0.5)
    found = jd.warm_up(
        MODEL,
        rows=[1, 2],
        prompt_lengths=[2, 9],
        new_tokens=4,
        sampler=sampler,
        **OPTIONS,
    )
    assert [(w.rows, w.prompt_length, w.new_tokens) for w in found] == [
        (1, 9, 4),
        (2, 9, 4),
    ]
    assert all(w.seconds > 0.0 for w in found)
    other = jd.Temperature(0.9)
    with jd.testing.count_compiles() as compiles:
        for prompts in ([[1]], [[1, 2, 3], [4, 5]]):
            for count in (1, 3, 4):
                more = OPTIONS | {"max_new_tokens": count, "sampler": other}
                jd.generate(MODEL, prompts, 7, **more)
    assert compiles.count == 0, compiles.names
    again = jd.warm_up(MODEL, prompt_lengths=5, new_tokens=4, sampler=other, **OPTIONS)
    assert again[0].seconds < found[0].seconds


def test_a_bucket_that_was_not_named_is_another_program():
    jd.warm_up(MODEL, prompt_lengths=4, new_tokens=2, sampler=tiny.PLAIN)
    with jd.testing.count_compiles() as compiles:
        asked = {"sampler": tiny.PLAIN, "max_new_tokens": 2}
        jd.generate(MODEL, [list(range(8)) * 2 + [1]], 0, **asked)
    assert compiles.count > 0


@pytest.mark.parametrize(
    ("given", "error", "rule"),
    [
        ({"rows": 0}, ValueError, "warm_up: `rows` must be"),
        ({"prompt_lengths": 1.5}, TypeError, "warm_up: `prompt_lengths` must be"),
        ({"new_tokens": []}, (TypeError, ValueError), "warm_up: `new_tokens` must"),
        ({"new_tokens": LENGTH}, ValueError, rf"must be <= {LENGTH}, .* got 16 \+ 24"),
        ({"max_new_tokens": 3}, TypeError, "must be given as `new_tokens`"),
    ],
)
def test_wrong_sizes_are_refused(given, error, rule):
    with pytest.raises(error, match=rule):
        jd.warm_up(MODEL, **given)
