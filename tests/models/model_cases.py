"""Tiny models of every kind, and how to run one; shared by the tests of this folder."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.models import ModelConfig, RopeScaling, build, random_params
from tests.reference.llama import gpt2_logits, llama_logits

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
VOCAB, LENGTH = 37, 17

PLAIN = ModelConfig(
    vocab_size=VOCAB,
    max_length=LENGTH,
    width=24,
    mlp_width=29,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
)


def varied(**changes):
    return dataclasses.replace(PLAIN, **changes)


LLAMA3 = RopeScaling(
    "llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_length=32,
)
GPT2 = {
    "family": "gpt2",
    "activation": "gelu_new",
    "num_kv_heads": 4,
    "head_dim": 6,
}
CASES = {
    "grouped": PLAIN,
    "one_key_head": varied(num_kv_heads=1),
    "as_many_key_heads": varied(num_kv_heads=4),
    "tied": varied(tied_output=True),
    "qwen2": varied(qkv_bias=True, tied_output=True, rope_theta=1e6),
    "all_biases": varied(qkv_bias=True, output_bias=True, mlp_bias=True),
    "qwen3": varied(qk_norm=True, head_dim=10, norm_eps=1e-6),
    "mistral": varied(sliding_window=5),
    "one_layer_slides": varied(sliding_window=3, sliding_layers=(1,)),
    "two_rotary_bases": varied(
        sliding_window=4,
        sliding_layers=(0,),
        sliding_rope_theta=7.0,
        rope_scaling=RopeScaling("linear", factor=2.0),
    ),
    "linear_rope": varied(rope_scaling=RopeScaling("linear", factor=4.0)),
    "llama3_rope": varied(rope_scaling=LLAMA3, rope_theta=100.0),
    "gpt2": varied(**GPT2, tied_output=True),
    "gpt2_scale_by_layer": varied(**GPT2, scale_by_layer=True),
    "gpt2_unscaled": varied(**GPT2, scale_attention=False),
}


def tokens_of(*lengths, seed=0):
    """Random token lists of the given lengths."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, VOCAB, n).tolist() for n in lengths]


def expected_logits(config, params, tokens):
    """Logits by the reference in plain loops."""
    forward = gpt2_logits if config.family == "gpt2" else llama_logits
    return forward(dataclasses.asdict(config), params, tokens)


def model_of(config, dtype="float32", seed=0):
    return build(config, random_params(config, seed), dtype)


@jax.jit
def run(model, tokens, positions, cache):
    return model(tokens, positions, cache)


@jax.jit
def run_at(model, tokens, positions, cache, at):
    return model(tokens, positions, cache, at=at)


def read(model, rows, *, pad=0, length=LENGTH):
    """Logits [B, S, V] and cache of a ragged batch, padded and read in one call."""
    width = max(map(len, rows))
    tokens = [row + [pad] * (width - len(row)) for row in rows]
    positions = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (len(rows), width))
    cache = model.init_cache(len(rows), length)
    return run(model, jnp.asarray(tokens, jnp.int32), positions, cache)
