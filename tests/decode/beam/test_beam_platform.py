"""A search for another platform calls no kernel of this one, nor keeps its words."""

import dataclasses
import re

import jax
import pytest

from jaxdecode.core.platform import TPU
from jaxdecode.core.pytree import replace
from jaxdecode.decode.beam import exploring, searching, stochastic
from jaxdecode.decode.beam.request import prepare_search
from jaxdecode.models import ModelConfig, outline
from jaxdecode.native import current_platform
from jaxdecode.transforms import FrequencyPenalty, chain

CONFIG = ModelConfig(
    vocab_size=4099,
    max_length=48,
    width=16,
    mlp_width=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
)
PROMPTS = [[3, 1, 4], [2]]
SEARCHES = {
    "beams": (searching.run, {}),
    "a cache per beam": (searching.run, {"memory": "whole"}),
    "groups": (searching.run, {"groups": 2, "diversity": 0.5}),
    "required": (searching.run, {"required": [[7, 8]]}),
    "explored": (exploring._run, {}),
    "sampled": (searching.run, {"key": jax.random.key(0)}),
    "without replacement": (stochastic._run, {"key": jax.random.key(0)}),
}


def keeps_words(program):
    """Whether an array with the axes of a cache holds 16-bit words."""
    return re.search(r"u16\[\d+,\d+,\d+,\d+\]", program) is not None


def program_of(name, platform):
    run, options = SEARCHES[name]
    options = {"max_new_tokens": 4} | options
    key = options.pop("key", None)
    model = outline(CONFIG, "bfloat16")
    links = chain(FrequencyPenalty(0.5))
    request = prepare_search("test", model, PROMPTS, 4, links, options, key=key)
    plan = dataclasses.replace(request.search.plan, platform=platform)
    search = replace(request.search, plan=plan)
    return str(run.trace(model, request.prompts, search, request.pad_id).jaxpr)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_for_a_tpu_calls_no_kernel_and_keeps_no_words(name):
    program = program_of(name, TPU)
    assert "jaxdecode_" not in program
    assert not keeps_words(program)


def test_a_search_for_this_cpu_does():
    if not current_platform().kernels:
        pytest.skip("there are no kernels here")
    program = program_of("beams", current_platform())
    assert "jaxdecode_" in program
    assert keeps_words(program)
