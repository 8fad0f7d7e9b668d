"""One program: new values never compile again, and it fits inside the caller's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.testing import count_compiles
from tests import tiny
from tests.models.model_cases import GPT2, model_of, varied

PROMPTS = [[1, 2, 3], [4], [5, 6]]
BASE = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "temperature": 1.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}
SWEEP = [
    {"top_k": 5},
    {"top_k": [0, 3, 40]},
    {"top_p": 0.5},
    {"top_p": [0, 0.9, 1]},
    {"min_p": np.float64(0.1)},
    {"temperature": 0},
    {"temperature": np.asarray([0.0, 0.5, 2.0])},
    {"temperature": jnp.float32(0.7)},
    {"repetition_penalty": 1.2},
    {"frequency_penalty": -0.5},
    {"presence_penalty": (0, 1, 2)},
    dict.fromkeys(BASE, 1),
]


def run(knobs=None, key=0, prompts=PROMPTS, model=None, **options):
    options = {"max_new_tokens": 6, "eos_ids": [7], "pad_id": 0} | options
    sampler = jd.joint(**BASE | (knobs or {}))
    model = model or tiny.llama()
    return jd.generate(model, prompts, key, sampler=sampler, **options)


def test_new_values_never_compile_again():
    run()
    run(key=jax.random.key(0))
    run(key=jax.random.split(jax.random.key(0), 3))
    with count_compiles() as count:
        for knobs in SWEEP:
            run(knobs)
        run(key=5)
        run(key=jax.random.key(9))
        run(key=jax.random.split(jax.random.key(1), 3))
        run(max_new_tokens=9)
        run(max_new_tokens=[1, 16, 3])
        run(eos_ids=None)
        run(eos_ids=3)
        run(eos_ids=[1, 2, 3, 4, 5])
        run(pad_id=5)
    assert count.count == 0, count.names


def loops_over(model, temperature, key, prompts=PROMPTS):
    """Write with every kind of loop; the joint sampler's knobs are swept above."""
    options = {"sampler": jd.Temperature(temperature), "max_new_tokens": 6}
    for loop in ("while", "scan"):
        jd.generate(model, prompts, key, loop=loop, **options)
    list(jd.stream(model, prompts, key, **options))


def test_no_kind_of_loop_compiles_again_for_new_values():
    model = tiny.bag()
    loops_over(model, 1.0, 0)
    with count_compiles() as count:
        loops_over(model, [0.0, 0.5, 2.0], 7)
        loops_over(model, 0.7, 8, [[3] * 16, [4], [5]])
    assert count.count == 0, count.names


def with_dtypes():
    """Each family and type; all but one later: their weights are data in one way."""
    for family, changes in (("llama", {}), ("gpt2", GPT2)):
        for dtype in ("float32", "bfloat16", "int8"):
            soon = (family, dtype) == ("llama", "int8")
            marks = [] if soon else [pytest.mark.slow]
            yield pytest.param(changes, dtype, id=f"{family}-{dtype}", marks=marks)


@pytest.mark.parametrize(("changes", "dtype"), with_dtypes())
def test_no_family_or_precision_compiles_again_for_new_values(changes, dtype):
    model = model_of(varied(**changes), dtype)

    def write(**knobs):
        sampler = jd.joint(**BASE | knobs)
        jd.generate(model, PROMPTS, 0, sampler=sampler, max_new_tokens=4)

    write()
    with count_compiles() as count:
        write(top_k=5, temperature=[0.0, 0.5, 2.0])
        write(top_p=0.5, min_p=0.1, repetition_penalty=1.2)
    assert count.count == 0, count.names


def test_prompts_of_one_bucket_share_a_program():
    run()
    with count_compiles() as count:
        run(prompts=[[1], [2], [3]])
        run(prompts=[[1] * 16, [2], [3, 4]])
        run(prompts=(np.ones((3, 5), np.int32), np.asarray([5, 2, 1])))
    assert count.count == 0, count.names


def test_other_links_and_sizes_do_compile():
    run()
    with count_compiles() as count:
        run(prompts=[[1] * 17, [2], [3, 4]])
    assert count.count >= 1


def test_other_weights_of_one_shape_share_a_program():
    other = tiny.llama(seed=3)
    run()
    with count_compiles() as count:
        run(model=other)
    assert count.count == 0, count.names


def test_a_link_shared_by_all_rows_is_data_too():
    def biased(bias):
        sampler = jd.chain(jd.LogitBias(bias), jd.BanTokens([3]), jd.Temperature(0))
        return jd.generate(tiny.llama(), PROMPTS, 0, sampler=sampler, max_new_tokens=4)

    assert (np.asarray(biased({9: 1e3}).tokens) == 9).all()
    with count_compiles() as count:
        assert (np.asarray(biased({4: 1e3, 8: 1.0}).tokens) == 4).all()
    assert count.count == 0, count.names


def as_arrays(prompts):
    width = max(map(len, prompts))
    tokens = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return jnp.asarray(tokens), jnp.asarray([len(p) for p in prompts])


def test_it_runs_inside_the_callers_jit_with_everything_traced():
    tokens, lengths = as_arrays(PROMPTS)

    @jax.jit
    def inside(model, tokens, lengths, key, temperature, budget, eos):
        return jd.generate(
            model,
            (tokens, lengths),
            key,
            sampler=jd.joint(**BASE | {"temperature": temperature, "top_k": 9}),
            max_new_tokens=budget,
            new_tokens_max=6,
            eos_ids=eos,
        )

    got = inside(
        tiny.llama(), tokens, lengths, jax.random.key(0), jnp.float32(1.5),
        jnp.int32(6), jnp.asarray([7]),
    )  # fmt: skip
    wanted = run({"temperature": 1.5, "top_k": 9})
    np.testing.assert_array_equal(got.tokens, wanted.tokens)
    np.testing.assert_array_equal(got.status, wanted.status)


def test_it_runs_inside_the_callers_vmap():
    tokens, lengths = as_arrays(PROMPTS)
    keys = jax.random.split(jax.random.key(2), 2)
    heat = jnp.asarray([0.5, 2.0])

    @jax.jit
    @jax.vmap
    def one(key, temperature):
        sampler = jd.joint(**BASE | {"temperature": temperature, "top_p": 0.9})
        return jd.generate(
            tiny.llama(), (tokens, lengths), key, sampler=sampler, max_new_tokens=5
        ).tokens

    got = one(keys, heat)
    for i in range(2):
        alone = run({"temperature": heat[i], "top_p": 0.9}, keys[i], eos_ids=None,
                    max_new_tokens=5)  # fmt: skip
        np.testing.assert_array_equal(got[i], alone.tokens)


def test_the_fixed_scan_can_be_differentiated():
    tokens, lengths = as_arrays(PROMPTS)
    model = tiny.bag()

    @jax.jit
    @jax.value_and_grad
    def total(scale):
        scaled = jax.tree.map(lambda leaf: leaf * scale, model)
        out = jd.generate(
            scaled, (tokens, lengths), jax.random.key(0), sampler=tiny.PLAIN,
            max_new_tokens=3, loop="scan",
        )  # fmt: skip
        return jnp.sum(out.model_logprobs)

    step = 1e-3
    below, above = (total(jnp.float32(1 + way * step))[0] for way in (-1, 1))
    slope = total(jnp.float32(1.0))[1]
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=2e-2)


def test_a_traced_prompt_beyond_its_array_is_invalid_not_wrong():
    tokens, _ = as_arrays(PROMPTS)
    inside = jax.jit(
        lambda lengths: jd.generate(
            tiny.bag(), (tokens, lengths), 0, sampler=tiny.PLAIN, max_new_tokens=3
        )
    )
    out = inside(jnp.asarray([0, 1, 4]))
    assert out.status.tolist() == [
        jd.Status.INVALID,
        jd.Status.LENGTH,
        jd.Status.INVALID,
    ]


def test_a_traced_budget_ends_at_the_models_last_position():
    inside = jax.jit(
        lambda lengths: (
            jd.generate(
                tiny.bag(),
                (jnp.ones((1, 40), jnp.int32), lengths),
                0,
                sampler=tiny.PLAIN,
                max_new_tokens=12,
            ).lengths
        )
    )
    assert inside(jnp.asarray([40])).tolist() == [tiny.COLUMNS - 40]


def test_traced_new_tokens_need_a_static_width():
    with pytest.raises(ValueError, match="new_tokens_max"):
        jax.jit(lambda n: jd.generate(tiny.llama(), [[1]], 0, max_new_tokens=n))(3)
