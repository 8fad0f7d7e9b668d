"""Long rows on accelerators: prompts read by blocks, tokens that read what is in use.

The tokens are those of a CPU, where attention reads all columns at once.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.platform import CPU, GPU, TPU, Blocks
from jaxdecode.decode import scoring, trace
from jaxdecode.decode.generation import generate_for
from jaxdecode.decode.prompts import Prompts
from jaxdecode.models import build, random_params
from jaxdecode.models.families.gemma import GemmaConfig
from tests.models.model_cases import varied

COLUMNS, NEW = 48, 28
BLOCKS = Blocks(columns=8, columns_whole=8, scores_max=3 * 4 * 8 * 4)
SMALL = {"blocks": BLOCKS, "columns_per_call": 16, "steps_per_look": 4}
SMALL |= {"columns_multiple": 1}
PLATFORMS = {
    "tpu": dataclasses.replace(TPU, **SMALL),
    "gpu": dataclasses.replace(GPU, **SMALL, stages=(12, 20)),
}
PLAIN = dataclasses.replace(CPU, columns_per_call=16)
CONFIGS = {
    "grouped heads": varied(max_length=COLUMNS, num_heads=4, num_kv_heads=2),
    "windows": varied(max_length=COLUMNS, sliding_window=5, sliding_layers=(1,)),
    "caps": GemmaConfig(
        vocab_size=37,
        max_length=COLUMNS,
        width=24,
        mlp_width=29,
        num_layers=1,
        num_heads=4,
        num_kv_heads=1,
        head_dim=8,
        sliding_window=11,
        score_cap=1.5,
        tied_output=True,
    ),
}
SAMPLERS = {
    "plain": jd.Temperature(1.5),  # a greedy row repeats itself, and hides much
    "greedy": jd.joint(temperature=0.0),
    "joint": jd.joint(
        top_k=[5, 0, 20], top_p=0.9, temperature=[0.8, 1.2, 0.0], repetition_penalty=1.1
    ),
}
# Rows that end their stage at a look, that begin at its last one, and that have a prompt
# of several blocks and calls. At most 16 tokens are a stage's; a prompt has 16 or 32.
LENGTHS = {"one look": (1, 4, 6), "last look": (2, 5, 9), "blocks": (3, 17, 20)}


@functools.cache
def model(name):
    config = CONFIGS[name]
    params = dict(random_params(config, seed=2))
    # Random weights are small: a column more or less would not show.
    for part, factor in {"attention.q": 8, "attention.o": 16, "head": 4}.items():
        for key in (key for key in params if f"{part}.weight" in key):
            params[key] = params[key] * np.float32(factor)
    return build(config, params)


def prompts(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 37, n).tolist() for n in lengths]


def written(platform, name, lengths, sampler):
    options = {"sampler": sampler, "max_new_tokens": [NEW, 5, NEW - 3]}
    return generate_for(platform, model(name), prompts(lengths), 0, **options)


def check_same(platform, lengths, name="caps", sampler="plain"):
    given = name, LENGTHS[lengths], SAMPLERS[sampler]
    found, expected = written(PLATFORMS[platform], *given), written(PLAIN, *given)
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert found.lengths.tolist() == [NEW, 5, NEW - 3]
    np.testing.assert_allclose(found.model_logprobs, expected.model_logprobs, atol=2e-5)


@pytest.mark.parametrize("lengths", ["one look", "last look"])
def test_a_row_leaves_its_stage_before_it_needs_more_columns(lengths):
    check_same("gpu", lengths)


def test_prompts_and_tokens_read_by_blocks_what_they_read_of_all_columns():
    check_same("tpu", "blocks")


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(
    ("name", "sampler"), [("grouped heads", "joint"), ("windows", "joint")]
)
def test_every_kind_of_rows_is_written_as_on_a_cpu(platform, lengths, name, sampler):
    check_same(platform, lengths, name, sampler)


def loops(model, platform, lengths=(1, 4, 6)):
    """Return how many columns the tokens of each decode loop read."""
    given = model, prompts(lengths), 0
    options = {"sampler": SAMPLERS["plain"], "max_new_tokens": NEW}
    lines = trace(*given, platform=platform, **options).jaxpr.eqns
    found = []
    for line in (x for x in lines if x.primitive.name == "while"):
        scores = re.findall(r"f32\[3,2,2,1,(\d+)\]", str(line.params["body_jaxpr"]))
        found.append({int(n) for n in scores} - {1, 8})  # heads have 8 numbers
    return [columns for columns in found if columns]


def test_a_loop_that_asks_the_host_reads_more_from_stage_to_stage():
    one = model("grouped heads")
    assert loops(one, PLATFORMS["gpu"]) == [{12}, {20}, {48}]
    without = dataclasses.replace(PLATFORMS["gpu"], stages=())
    assert loops(one, without) == [{48}]


def test_a_stage_that_no_row_can_be_in_is_left_out():
    # A prompt of 32 columns is longer than 16 tokens.
    assert loops(model("grouped heads"), PLATFORMS["gpu"], (3, 17, 17)) == [{20}, {48}]


@pytest.mark.parametrize(
    "name", ["caps", pytest.param("windows", marks=pytest.mark.slow)]
)
def test_a_stream_goes_through_the_stages(name, monkeypatch):
    there = "jaxdecode.decode.streaming.current_platform"
    monkeypatch.setattr(there, lambda: PLATFORMS["gpu"])
    given, sampler = prompts(LENGTHS["one look"]), SAMPLERS["plain"]
    options = {"sampler": sampler, "max_new_tokens": [NEW, 5, NEW - 3], "every": 11}
    pieces = list(jd.stream(model(name), given, 0, **options))
    found = np.concatenate([piece.tokens for piece in pieces], axis=1)
    expected = written(PLAIN, name, LENGTHS["one look"], sampler)
    assert found.tolist() == expected.tokens.tolist()


@pytest.mark.slow
def test_a_wrapper_that_reads_at_other_positions_has_no_stages():
    guided = jd.guided(model("grouped heads"), 1.5, [list(range(13))])
    options = {"max_new_tokens": 18, "sampler": SAMPLERS["greedy"]}
    found, expected = (
        generate_for(platform, guided, prompts((1, 4, 6)), 0, **options)
        for platform in (PLATFORMS["gpu"], PLAIN)
    )
    assert found.tokens.tolist() == expected.tokens.tolist()
    np.testing.assert_allclose(found.model_logprobs, expected.model_logprobs, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS)
def test_a_score_has_the_slope_of_all_columns(platform):
    one = model("windows")
    given = [
        Prompts(np.asarray(prompts((n,) * 3, seed)), np.full(3, n, np.int32))
        for n, seed in ((17, 0), (9, 1))
    ]

    def slopes(platform):
        def loss(model):
            asked = {"observables": (), "chunk": None, "platform": platform}
            return -jnp.sum(
                scoring._run((model, None), *given, None, None, **asked).model_logprobs
            )

        return jax.value_and_grad(loss)(one)

    (found, slope), (expected, other) = slopes(platform), slopes(PLAIN)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    for name, leaf in other.params.items():
        largest = float(np.abs(leaf).max())
        pair = slope.params[name], leaf
        np.testing.assert_allclose(*pair, atol=1e-5 * largest, err_msg=name)


@pytest.mark.slow
def test_beams_of_a_prompt_of_several_blocks_are_the_same(monkeypatch):
    def found(platform):
        monkeypatch.setattr(
            "jaxdecode.decode.beam.request.current_platform", lambda: platform
        )
        options = {"num_beams": 3, "max_new_tokens": 6}
        return jd.beam_search(model("caps"), prompts((3, 17, 20)), **options)

    expected = found(PLAIN)
    for platform in PLATFORMS.values():
        beams = found(platform)
        assert beams.tokens.tolist() == expected.tokens.tolist()
        np.testing.assert_allclose(beams.scores, expected.scores, atol=2e-5)
