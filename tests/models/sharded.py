"""What a sharded model writes, compared with one device: a program for eight devices.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.models.sharded

prints a line for each case, "ok" or what went wrong. JAX fixes how many devices there are
when it starts, so the tests run this in a process.
"""

import dataclasses
import json
import re
import traceback

import jax
import numpy as np

import jaxdecode as jd
from jaxdecode.core.platform import CPU, GPU, TPU, Blocks
from jaxdecode.core.processes import in_every_process
from jaxdecode.decode import trace
from jaxdecode.decode.generation import generate_for
from jaxdecode.models import ModelConfig, build, random_params

PROMPTS = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]]
CONFIG = ModelConfig(
    vocab_size=40,
    width=16,
    num_layers=2,
    num_heads=8,
    num_kv_heads=4,
    head_dim=4,
    mlp_width=24,
    max_length=48,
    qkv_bias=True,
)
EVERYTHING = {
    "top_k": [5, 0, 20, 40],
    "top_p": [0.9, 1.0, 0.8, 0.95],
    "temperature": [0.8, 0.0, 1.0, 1.3],
    "repetition_penalty": 1.2,
    "frequency_penalty": 0.3,
    "presence_penalty": 0.2,
}


def models():
    params = dict(random_params(CONFIG, seed=1))
    params["head.weight"] = params["head.weight"] * np.float32(4.0)
    one = build(CONFIG, params)
    mesh = jax.make_mesh((2, 4), ("data", "tensor"))
    return one, jd.shard(one, mesh, data="data", tensor="tensor")


ONE, MANY = models()


def both(run):
    found, expected = run(MANY), run(ONE)
    assert found.tokens.tolist() == expected.tokens.tolist()
    return found, expected


def greedy():
    options = {"sampler": jd.joint(temperature=0), "max_new_tokens": 8}
    both(lambda model: jd.generate(model, PROMPTS, 0, **options))


def joint_with_parameters_per_row():
    options = {"sampler": jd.joint(**EVERYTHING), "max_new_tokens": [8, 5, 8, 7]}
    found, expected = both(lambda model: jd.generate(model, PROMPTS, 3, **options))
    for name in ("model_logprobs", "sampling_logprobs"):
        pair = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(*pair, atol=1e-5)


def rows_that_do_not_divide():
    options = {"sampler": jd.joint(top_p=0.9), "max_new_tokens": 8}
    both(lambda model: jd.generate(model, PROMPTS[:3], 5, **options))


def pieces_of_a_stream():
    options = {"sampler": jd.joint(**EVERYTHING), "max_new_tokens": [8, 5, 8, 7]}
    found = list(jd.stream(MANY, PROMPTS, 3, **options))
    expected = jd.generate(ONE, PROMPTS, 3, **options)
    tokens = np.concatenate([piece.tokens for piece in found], axis=1)
    assert tokens.tolist() == expected.tokens.tolist()


def beams():
    options = {"num_beams": 3, "num_return": 3, "max_new_tokens": 6, "eos_ids": 7}
    pair = both(lambda model: jd.beam_search(model, PROMPTS, **options))
    np.testing.assert_allclose(*(beams.scores for beams in pair), atol=1e-5)


def score():
    answers = [[5, 6], [7], [8, 9, 1], [2]]
    found, expected = (jd.score(m, PROMPTS, answers) for m in (MANY, ONE))
    np.testing.assert_allclose(found.model_logprobs, expected.model_logprobs, atol=1e-5)


def long_rows_by_blocks():
    blocks = Blocks(columns=8, columns_whole=8, scores_max=1024)
    options = {"sampler": jd.joint(temperature=0), "max_new_tokens": 24}
    for platform in TPU, dataclasses.replace(GPU, stages=(12,)):
        small = dataclasses.replace(platform, blocks=blocks)

        def run(model, platform=small):
            found = generate_for(platform, model, PROMPTS, 0, **options)
            return in_every_process(found)

        both(run)


def every_device_holds_its_part():
    sizes = {}
    for name, leaf in zip(MANY.definition.names, MANY.leaves, strict=True):
        held = {shard.data.size for shard in leaf.addressable_shards}
        sizes[name] = leaf.size // max(held)
    assert {n for n, part in sizes.items() if part == 1} == {
        n for n in sizes if "norm" in n
    }
    assert set(sizes.values()) == {1, 4}


def a_step_has_two_sums_a_layer():
    options = {"sampler": jd.joint(temperature=0), "max_new_tokens": 8}
    traced = trace(MANY, PROMPTS, 0, platform=CPU, **options)
    text = traced.lower().compile().as_text()
    named = re.findall(r"all-reduce\(.*op_name=\"([^\"]*)\"", text)
    of_layers = [n for n in named if "while" in n and n.endswith("dot_general")]
    assert 0 < len(of_layers) <= 2 * CONFIG.num_layers, named


CASES = (
    greedy,
    joint_with_parameters_per_row,
    rows_that_do_not_divide,
    pieces_of_a_stream,
    beams,
    score,
    long_rows_by_blocks,
    every_device_holds_its_part,
    a_step_has_two_sums_a_layer,
)


def report(cases, prefix=""):
    """Run cases and print what became of each."""
    for case in cases:
        try:
            case()
            outcome = "ok"
        except Exception:
            outcome = traceback.format_exc(limit=-4)
        line = {"case": prefix + case.__name__, "outcome": outcome}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    report(CASES)
