"""Long prompts and long rows on a TPU and a GPU, read in the compiled programs.

One layer of a 1 B model, from abstract arrays. Nothing here is run or timed.
"""

import dataclasses
import functools
import math

import jax
import pytest

import jaxdecode as jd
from jaxdecode.decode import trace
from jaxdecode.measure import chips, hlo
from jaxdecode.models import SHAPES, outline

pytestmark = [pytest.mark.accelerator, pytest.mark.optimized, pytest.mark.slow]

PROMPT, NEW, BLOCK = 4096, 64, 512
CONFIG = dataclasses.replace(SHAPES["llama-3.2-1b"], num_layers=1)
KERNEL = "attend_and_write/pallas_call"  # the name that its line carries
MOVES = ("copy", "transpose", "convert", "bitcast-convert", "all-gather")


@pytest.fixture(params=["v5e", "h100"])
def chip(request):
    if reason := chips.why_no_compiler(request.param):
        pytest.skip(reason)
    return request.param


def compiled(chip, model, rows, prompt, new):
    traced = trace(
        model,
        [[1] * prompt] * rows,
        0,
        sampler=jd.joint(temperature=0.0),
        max_new_tokens=new,
        platform=chips.CHIPS[chip].platform,
    )
    done = chips.compiled_for(traced, chip)
    return done, hlo.Program(done.as_text())


def model_for(chip):
    return outline(CONFIG, "bfloat16", platform=chips.CHIPS[chip].platform)


@functools.cache
def generation(chip):
    """Return one long prompt's program."""
    model = chips.placed(model_for(chip), chips.mesh_of(chip))
    return compiled(chip, model, 1, PROMPT, NEW)


def layer_of_cache(chip, rows, columns, parts=1):
    """Return the shape of a layer's keys on one device."""
    model = model_for(chip)
    b, k, t, d = jax.eval_shape(lambda: model.init_cache(rows, columns)).keys[0].shape
    return b, k // parts, t, d


def moved(lines, layer):
    """Return the instructions that copy a layer of the cache, whatever its axes."""
    large = math.prod(layer)
    return [
        line.text[:160]
        for line in lines
        if line.kind in MOVES
        and any(
            math.prod(axes) >= large and layer[2] in axes for _, axes in line.shapes
        )
    ]


def test_no_scores_of_a_long_prompt_are_held(chip):
    done, program = generation(chip)
    made = [x for x in program.reached(program.entry) if x.kind not in hlo.FREE]
    scores = [
        line.text[:160]
        for line in made
        for _, axes in line.shapes
        if sum(axis >= 1024 for axis in axes) >= 2
        and math.prod(axes) > 2 * chips.CHIPS[chip].platform.blocks.scores_max
    ]
    tables = CONFIG.vocab_size, 2 * CONFIG.mlp_width  # of weights, which are as large
    assert [x for x in scores if not any(str(n) in x for n in tables)] == []
    # A call of 2048 columns would hold 1.1 GB of scores alone.
    assert done.memory_analysis().temp_size_in_bytes < 400e6


def test_a_token_of_a_long_row_copies_no_layer_of_the_cache(chip):
    program = generation(chip)[1]
    layer = layer_of_cache(chip, 1, PROMPT + NEW)
    lines = program.reached(program.step())
    # The layer is there, in that shape, so that the guard sees what it looks for.
    assert any(axes == layer for line in lines for _, axes in line.shapes)
    assert moved(lines, layer) == []


def test_a_token_on_a_tpu_scores_one_block_of_a_long_row_at_a_time():
    if reason := chips.why_no_compiler("v5e"):
        pytest.skip(reason)
    program = generation("v5e")[1]
    lines = program.reached(program.step(), fused=True)
    loops = [hlo._body(x) for x in lines if x.kind == "while" and x.trips is None]
    cycles = [program._cycles(body) for body in loops]
    assert len([c for c in cycles if c["attention"]]) == 1
    numbers = [axes for x in lines for kind, axes in x.shapes if kind == "f32"]
    assert any(axes[-1:] == (BLOCK,) for axes in numbers)
    assert [axes for axes in numbers if PROMPT + NEW in axes] == []


def test_no_layer_of_a_long_cache_is_filled_up_for_a_product():
    if reason := chips.why_no_compiler("h100"):
        pytest.skip(reason)
    program = generation("h100")[1]
    lines = program.reached(program.step(), fused=True)
    columns = layer_of_cache("h100", 1, PROMPT + NEW)[2]
    pads = [shape for x in lines if x.kind == "pad" for _, shape in x.shapes]
    heads = [shape for shape in pads if shape[-1] == CONFIG.head_size]
    assert [shape for shape in heads if max(shape) >= columns] == []


def test_a_gpu_has_a_loop_for_short_rows_that_reads_by_the_kernel():
    if reason := chips.why_no_compiler("h100"):
        pytest.skip(reason)
    model = chips.placed(model_for("h100"), chips.mesh_of("h100"))
    program = compiled("h100", model, 2, 128, PROMPT)[1]
    layer = layer_of_cache("h100", 2, 128 + PROMPT)
    decode = [x for x in program[program.entry] if x.kind == "while"][-2:]
    rows, heads = 2 * CONFIG.kv_heads, CONFIG.num_heads // CONFIG.kv_heads
    columns, kernels = [], []
    for line in decode:
        inside = program.reached(hlo._body(line))
        assert moved(inside, layer) == []
        made = [axes for x in inside for _, axes in x.shapes if len(axes) == 3]
        scores = {axes[2] for axes in made if axes[:2] == (rows, heads)}
        columns.append(scores - {CONFIG.head_size})
        calls = [x for x in inside if x.kind == "custom-call"]
        kernels.append(sum(KERNEL in x.text for x in calls))
    assert columns == [set(), {layer[2]}]
    assert kernels == [1, 0]


def test_no_device_of_a_mesh_gathers_a_layer_of_the_cache():
    if reason := chips.why_no_compiler("v5e"):
        pytest.skip(reason)
    mesh = chips.mesh_of("v5e", data=1, tensor=4)
    model = jd.shard(model_for("v5e"), mesh, data="data", tensor="tensor")
    program = compiled("v5e", model, 1, PROMPT, NEW)[1]
    layer = layer_of_cache("v5e", 1, PROMPT + NEW, parts=4)
    lines = program.reached(program.step())
    assert any(axes == layer for line in lines for _, axes in line.shapes)
    assert moved(program.reached(program.entry), layer) == []
