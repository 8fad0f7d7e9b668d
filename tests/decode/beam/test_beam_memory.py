"""Beams that share their prompt give what a cache per beam gives, and move less."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from jaxdecode.decode.beam import beam_search, searching
from jaxdecode.decode.beam.caches import can_share
from jaxdecode.decode.beam.request import Options, prepare_search
from jaxdecode.models import ModelConfig, build, random_params
from jaxdecode.transforms import chain

LLAMA = ModelConfig(
    vocab_size=37,
    max_length=96,
    width=24,
    mlp_width=29,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
)
GPT2 = dataclasses.replace(LLAMA, family="gpt2", num_kv_heads=4, activation="gelu_new")
CONFIGS = {
    "llama": LLAMA,
    "gpt2": GPT2,
    "sliding window": dataclasses.replace(LLAMA, sliding_window=5),
}
PROMPTS = [[3, 1, 4, 1, 5, 9], [2], [6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4]]
BEAMS, STEPS, LAYERS = 3, 13, 2


def model_of(config, dtype="float32"):
    params = {
        name: value * np.float32(4.0 if name == "embedding.weight" else 1.0)
        for name, value in random_params(config, 1).items()
    }
    return build(config, params, dtype)


OPTIONS = {"max_new_tokens": STEPS, "num_return": BEAMS, "eos_ids": [7]}


def both(model):
    return [
        beam_search(model, PROMPTS, num_beams=BEAMS, memory=memory, **OPTIONS)
        for memory in ("shared", "whole")
    ]


# That of the first one is a program of the models below, too.
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind == "llama" else [pytest.mark.slow])
        for kind in CONFIGS
    ],
)
def test_shared_prompts_give_the_hypotheses_of_whole_caches(kind):
    shared, whole = both(model_of(CONFIGS[kind]))
    np.testing.assert_array_equal(shared.tokens, whole.tokens)
    np.testing.assert_allclose(shared.scores, whole.scores, atol=2e-5)


def test_bfloat16_words_are_shared_like_numbers():
    shared, whole = both(model_of(LLAMA, "bfloat16"))
    np.testing.assert_array_equal(shared.tokens[:, 0], whole.tokens[:, 0])
    np.testing.assert_allclose(shared.scores[:, 0], whole.scores[:, 0], atol=2e-2)


def test_groups_share_the_prompt_too():
    model = model_of(LLAMA)
    shared, whole = (
        beam_search(
            model, PROMPTS, num_beams=4, groups=2, diversity=0.6, max_new_tokens=9,
            num_return=4, memory=memory,
        )
        for memory in ("shared", "whole")
    )  # fmt: skip
    np.testing.assert_array_equal(shared.tokens, whole.tokens)


def test_a_model_that_cannot_share_is_searched_with_whole_caches():
    class Plain:
        vocab_size, max_length = LLAMA.vocab_size, LLAMA.max_length

        def init_cache(self, rows, length):
            return inner.init_cache(rows, length)

        def __call__(self, tokens, positions, cache, *, at=None):
            return inner(tokens, positions, cache, at=at)

    inner = model_of(LLAMA)
    assert can_share(inner)
    assert not can_share(Plain())
    options = {"num_beams": BEAMS, **OPTIONS}
    expected = beam_search(inner, PROMPTS, memory="whole", **options)
    found = beam_search(Plain(), PROMPTS, **options)
    np.testing.assert_array_equal(found.tokens, expected.tokens)


def compiled(memory):
    model = model_of(LLAMA)
    options = Options(max_new_tokens=STEPS, memory=memory)
    given = ("beam_search", model, PROMPTS, BEAMS, chain(), options)
    request = prepare_search(*given)
    asked = (request.prompts, request.search, request.pad_id)
    return searching.run.lower(model, *asked).compile()


def steps_of(program):
    """Return the text of everything that the decode loop runs, computation by name."""
    text = program.as_text()
    parts = dict(re.findall(r"^(?:ENTRY )?%(\S+) \(.*?\{$(.*?)^\}", text, re.M | re.S))
    bodies = re.findall(r"while\(.*?body=%([\w.\-]+)", text)
    wanted, seen = [b for b in bodies if "conditional(" in parts[b]], set()
    assert len(wanted) == 1
    while wanted:
        name = wanted.pop()
        if name in seen or name not in parts:
            continue
        seen.add(name)
        wanted += re.findall(r"%([\w.\-]+)", parts[name])
    return "\n".join(parts[name] for name in seen)


def moved(program, sizes):
    """Return the copies, gathers and transposes of the loop that have such a size."""
    pattern = r"= \w+\[([\d,]+)\]\S* (?:copy|gather|transpose|concatenate)\("
    shapes = re.findall(pattern, steps_of(program))
    return [s for s in shapes if np.prod([int(n) for n in s.split(",")]) in sizes]


@pytest.mark.reads_program
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="reads a CPU program")
def test_a_step_moves_no_keys_and_values_of_shared_prompts():
    rows, heads, size, width, columns = len(PROMPTS), 2, 6, 32, 15
    prompt = rows * heads * width * size
    added = rows * heads * columns * BEAMS * size
    assert not moved(compiled("shared"), {prompt, added})
    # The same reading finds what the plain way moves.
    cache = rows * BEAMS * heads * (width + columns) * size
    assert len(moved(compiled("whole"), {cache})) >= 2 * LAYERS


@pytest.mark.reads_program
def test_the_cache_holds_each_prompt_once():
    model = model_of(LLAMA)
    read = jax.eval_shape(lambda: model.init_cache(3, 32))
    shared = jax.eval_shape(
        lambda cache: model.share_prompts(
            cache, np.zeros(3, np.int32), beams=BEAMS, columns=STEPS
        ),
        read,
    )
    count = sum(leaf.size for leaf in jax.tree.leaves((shared.keys, shared.values)))
    per_column = 2 * LAYERS * 3 * 2 * 6
    assert count == per_column * BEAMS * STEPS
    held = sum(leaf.size for leaf in jax.tree.leaves(shared.prompts))
    assert held == per_column * 32
