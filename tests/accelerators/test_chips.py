"""What the compilers for TPU v5e and H100 make of our programs, read without a device.

Two layers of a 1 B model, from abstract arrays. Nothing here is run or timed.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode import scoring, trace
from jaxdecode.decode.prompts import Prompts
from jaxdecode.measure import chips, hlo
from jaxdecode.models import SHAPES, outline

pytestmark = [pytest.mark.accelerator, pytest.mark.optimized, pytest.mark.slow]

LAYERS, BATCH, PROMPT, NEW = 2, 8, 128, 128
CONFIG = dataclasses.replace(SHAPES["llama-3.2-1b"], num_layers=LAYERS)
SAMPLERS = {
    "joint": jd.joint(
        top_k=50,
        top_p=0.9,
        temperature=0.8,
        repetition_penalty=1.1,
        frequency_penalty=0.2,
        presence_penalty=0.1,
    ),
}
TABLE = 2 * CONFIG.vocab_size * CONFIG.width  # bytes


@pytest.fixture(params=["v5e", "h100"])
def chip(request):
    if reason := chips.why_no_compiler(request.param):
        pytest.skip(reason)
    return request.param


def model_on(chip):
    model = outline(CONFIG, "bfloat16", platform=chips.CHIPS[chip].platform)
    return chips.placed(model, chips.mesh_of(chip))


@functools.cache
def generation(chip, sampler):
    traced = trace(
        model_on(chip),
        [[1] * PROMPT] * BATCH,
        0,
        sampler=SAMPLERS[sampler],
        max_new_tokens=NEW,
        platform=chips.CHIPS[chip].platform,
    )
    compiled = chips.compiled_for(traced, chip)
    return compiled, hlo.Program(compiled.as_text())


def held(chip):
    """Return the bytes of weights and cache."""
    model = model_on(chip)
    cache = jax.eval_shape(lambda: model.init_cache(BATCH, PROMPT + NEW))
    return sum(map(hlo.bytes_of, jax.tree.leaves((model.leaves, cache))))


def step_of(program):
    return [line for line in program.reached(program.step()) if line.kind != "iota"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_makes_no_array_as_large_as_the_table(chip, sampler):
    program = generation(chip, sampler)[1]
    made = [line for line in step_of(program) if line.kind not in hlo.FREE]
    assert [line.text[:160] for line in made if line.bytes >= TABLE // 4] == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_makes_no_copy_of_a_layer_of_the_cache(chip, sampler):
    layer = (BATCH, CONFIG.kv_heads, PROMPT + NEW, CONFIG.head_size)
    moves = ("copy", "transpose", "convert", "bitcast-convert")
    made = [
        line for line in step_of(generation(chip, sampler)[1]) if line.kind in moves
    ]
    assert [x.text[:160] for x in made for _, axes in x.shapes if axes == layer] == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_sorts_no_row(chip, sampler):
    program = generation(chip, sampler)[1]
    inside = program.reached(program.step(), fused=True)
    sorts = [line for line in inside if line.kind == "sort"]
    widths = [axes[-1] for line in sorts for _, axes in line.shapes]
    assert max(widths, default=0) < CONFIG.vocab_size // 8
    # A few chunks are sorted on a GPU, so the guard sees sorts at all.
    assert bool(widths) == (chip == "h100")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_moves_nothing_to_the_host(chip, sampler):
    kinds = {line.kind for line in step_of(generation(chip, sampler)[1])}
    assert not kinds & {"infeed", "outfeed", "send", "recv"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_held_beside_weights_and_cache_is_a_tenth_and_the_logits(chip, sampler):
    memory = generation(chip, sampler)[0].memory_analysis()
    logits = 4 * BATCH * CONFIG.vocab_size
    # Reading the prompts takes a few arrays of the MLP's width, whatever the depth.
    reading = 3 * 4 * BATCH * PROMPT * CONFIG.mlp_width
    room = 0.1 * held(chip) + 4 * logits + reading
    assert memory.temp_size_in_bytes < room


def test_products_that_read_weights_are_most_of_a_tpus_step():
    if reason := chips.why_no_compiler("v5e"):
        pytest.skip(reason)
    compiled, program = generation("v5e", "joint")
    cycles = program.step_cycles()
    # With all sixteen layers a step has seven times these layers' share.
    layers = cycles["weights"] + cycles["attention"] + cycles["other"]
    assert cycles["weights"] / layers > 0.9
    assert cycles["draw"] < 300_000  # 0.2 ms
    assert compiled.memory_analysis().generated_code_size_in_bytes < 24e6


def test_a_lone_row_is_multiplied_by_a_tpus_matrix_unit():
    if reason := chips.why_no_compiler("v5e"):
        pytest.skip(reason)
    lone = trace(
        model_on("v5e"),
        [[1] * PROMPT],
        0,
        max_new_tokens=NEW,
        platform=chips.CHIPS["v5e"].platform,
    )
    program = hlo.Program(chips.compiled_for(lone, "v5e").as_text())
    several = generation("v5e", "joint")[1].step_cycles()["weights"]
    # In the vector unit a lone row takes three times what eight take together.
    assert program.step_cycles()["weights"] < 1.1 * several


def test_a_gpu_is_asked_at_most_once_in_a_step():
    if reason := chips.why_no_compiler("h100"):
        pytest.skip(reason)
    program = generation("h100", "joint")[1]
    own = program[program.step()]
    open_loops = [x for x in own if x.kind == "while" and x.trips is None]
    asked = [line for line in own if line.kind == "conditional"]
    assert open_loops == []
    assert len(asked) <= 1


def test_the_slope_of_a_score_compiles_without_a_copy_of_the_table(chip):
    platform = chips.CHIPS[chip].platform
    mesh = chips.mesh_of(chip)
    texts = chips.placed(
        Prompts(*(jax.ShapeDtypeStruct(s, np.int32) for s in ((2, 16), (2,)))), mesh
    )

    @jax.jit
    def slopes(model, prompts, given):
        def loss(model):
            asked = {"observables": (), "chunk": None, "platform": platform}
            found = scoring._run((model, None), prompts, given, None, None, **asked)
            return -jnp.sum(found.model_logprobs)

        return jax.grad(loss)(model)

    traced = slopes.trace(model_on(chip), texts, texts)
    program = hlo.Program(chips.compiled_for(traced, chip).as_text())
    words = [
        x for x in program.reached(program.entry) if "u16[" in x.text.split("(")[0]
    ]
    assert words == []
