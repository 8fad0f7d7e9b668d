"""What runs on several devices, compared with one: a program of its own, for four.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.decode.devices

prints a line for each case, or for those that are named: "ok" or what went wrong. JAX
fixes how many devices there are when it starts, so the tests run this in a process.
"""

import dataclasses
import json
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdecode as jd
from jaxdecode.core.platform import TPU, Blocks
from jaxdecode.core.pytree import pytree
from jaxdecode.decode.generation import generate_for
from jaxdecode.models import ModelConfig, build, random_params
from tests import tiny

ROWS, WIDTH, NEW = 8, 5, 4
AUTO = jax.sharding.AxisType.Auto
ROW = P("data")


@pytree
class Split(tiny.Bag):
    """A bag whose table is split between devices; its logits are added up."""

    def __call__(self, tokens, positions, cache, *, at=None):
        logits, cache = tiny.Bag.__call__(self, tokens, positions, cache, at=at)
        return jax.lax.psum(logits, "tensor"), cache


def mesh_of(**sizes):
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), (AUTO,) * len(sizes))


def prompts_of():
    random = np.random.default_rng(0)
    lengths = random.integers(1, WIDTH + 1, ROWS)
    tokens = random.integers(1, tiny.VOCAB, (ROWS, WIDTH))
    return jnp.asarray(tokens, jnp.int32), jnp.asarray(lengths, jnp.int32)


def keys_of():
    return jax.vmap(jax.random.key)(jnp.arange(ROWS, dtype=jnp.uint32))


def spread(function, *arguments):
    """Return what a function gives with its rows on four devices, under `shard_map`."""
    specs = (ROW,) * len(arguments)
    mapped = jax.shard_map(
        function, mesh=mesh_of(data=4), in_specs=specs, out_specs=ROW
    )
    return jax.jit(mapped)(*arguments)


def same(function, *arguments):
    """Assert that a function gives the same on four devices as on one."""
    jax.tree.map(
        np.testing.assert_array_equal,
        spread(function, *arguments),
        jax.jit(function)(*arguments),
    )


def generating(make, *given, **options):
    def run(tokens, lengths, keys):
        asked = {"max_new_tokens": NEW, "eos_ids": [3], "stop": [[4, 5]]}
        asked |= {"sampler": tiny.PLAIN, **options}
        return jd.generate(make(*given), (tokens, lengths), keys, **asked).tokens

    return lambda: same(run, *prompts_of(), keys_of())


def kernel_llama(dtype):
    """A llama with heads large enough for every kernel."""
    config = ModelConfig(
        family="llama",
        vocab_size=tiny.VOCAB,
        width=64,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        mlp_width=64,
        max_length=tiny.COLUMNS,
    )
    return build(config, random_params(config, 0), dtype=dtype)


# Counts, a history, a table, ends, a sorted row, a coin, a row's own spread, a memory.
EVERY_KIND = (
    *(jd.RepetitionPenalty(1.2), jd.DRY(0.8), jd.LogitBias({3: -1.0})),
    *(jd.MinNewTokens(2, [3]), jd.TopP(0.95), jd.XTC(0.1, 0.5)),
    *(jd.DynamicTemperature(0.5, 1.5), jd.Mirostat(3.0, 0.1)),
)


def long_rows_by_blocks():
    blocks = Blocks(columns=4, columns_whole=4, scores_max=64)
    platform, model = dataclasses.replace(TPU, blocks=blocks), tiny.llama()

    def run(tokens, lengths, keys):
        given = model, (tokens, lengths), keys
        asked = {"sampler": tiny.PLAIN, "max_new_tokens": NEW}
        return generate_for(platform, *given, **asked).tokens

    same(run, *prompts_of(), keys_of())


def faded(params, token, state):
    """One token of a recurrent model: a state that fades."""
    state = 0.7 * state + params[token]
    return state @ params.T, state


def recurrent():
    table = np.random.default_rng(1).normal(size=(tiny.VOCAB, 8))
    return jd.from_recurrent(
        faded,
        jnp.asarray(table, jnp.float32),
        init_state=lambda rows: jnp.zeros((rows, 8), jnp.float32),
        vocab_size=tiny.VOCAB,
        max_length=tiny.COLUMNS,
    )


def guided():
    """A model whose reading of a prompt has a branch."""
    return jd.guided(tiny.bag(), 2.0, [[10, 11]])


def scores():
    def run(tokens, lengths, keys):
        given = tokens[:, :3], jnp.full(lengths.shape, 3, jnp.int32)
        sampler = jd.chain(jd.Mirostat(3.0, 0.1), jd.NoRepeatNGram(2))
        asked = {"sampler": sampler, "observe": ["entropy"], "chunk": 2}
        return jd.score(tiny.bag(), (tokens, lengths), given, key=keys, **asked)

    same(run, *prompts_of(), keys_of())


def beams():
    def run(tokens, lengths):
        return jd.beam_search(
            tiny.bag(), (tokens, lengths), num_beams=2, max_new_tokens=NEW
        ).tokens

    same(run, *prompts_of())


def stochastic_beams():
    def run(tokens, lengths, keys):
        return jd.stochastic_beam_search(
            tiny.bag(), (tokens, lengths), keys, num_beams=2, max_new_tokens=NEW
        ).tokens

    same(run, *prompts_of(), keys_of())


def score_and_slope():
    """The gradient by weights that all devices hold is the sum over their rows."""
    tokens, lengths = prompts_of()
    given = tokens[:, :3], jnp.full((ROWS,), 3, jnp.int32)

    def loss(table, tokens, lengths, *given):
        score = jd.score(tiny.Bag(table), (tokens, lengths), given, chunk=2)
        return jnp.sum(score.model_logprobs)

    table = jnp.asarray(tiny.bag().table)
    mapped = jax.shard_map(
        jax.grad(loss),
        mesh=mesh_of(data=4),
        in_specs=(P(), *(ROW,) * 4),
        out_specs=P(),
    )
    found = jax.jit(mapped)(table, tokens, lengths, *given)
    alone = jax.jit(jax.grad(loss))(table, tokens, lengths, *given)
    np.testing.assert_allclose(found, alone, atol=1e-5)


def split_weights():
    """A model whose weights lie on two devices leaves tokens that both agree on."""
    tokens, lengths = prompts_of()
    table = np.asarray(tiny.bag().table)
    halves = np.stack([np.where(table > 0, table, 0), np.where(table > 0, 0, table)])

    def run(half, tokens, lengths, keys):
        model = Split(half[0])
        asked = {"sampler": jd.TopK(5), "max_new_tokens": NEW}
        return jd.generate(model, (tokens, lengths), keys, **asked).tokens

    mapped = jax.shard_map(
        run,
        mesh=mesh_of(data=2, tensor=2),
        in_specs=(P("tensor"), ROW, ROW, ROW),
        out_specs=ROW,
    )
    found = jax.jit(mapped)(jnp.asarray(halves), tokens, lengths, keys_of())
    asked = {"sampler": jd.TopK(5), "max_new_tokens": NEW}
    alone = jd.generate(tiny.bag(), (tokens, lengths), keys_of(), **asked).tokens
    np.testing.assert_array_equal(found, alone)


def sharded_prompts():
    """Prompts on several devices stay there, outside a jit, and so does the text."""
    asked = {"sampler": jd.joint(top_p=0.9), "max_new_tokens": NEW}
    alone = jd.generate(tiny.bag(), prompts_of(), keys_of(), **asked)
    place = NamedSharding(mesh_of(data=4), ROW)
    prompts, keys = jax.device_put((prompts_of(), keys_of()), place)
    for key in (keys, list(range(ROWS))):
        found = jd.generate(tiny.bag(), prompts, key, **asked)
        np.testing.assert_array_equal(found.tokens, alone.tokens)
        np.testing.assert_array_equal(found.sequences, alone.sequences)
        for leaf in (found.tokens, found.lengths, found.model_logprobs):
            assert leaf.sharding.is_equivalent_to(place, leaf.ndim), leaf.sharding


CASES = {
    "joint": generating(tiny.bag, sampler=jd.joint(top_p=0.9)),
    "plain": generating(tiny.bag, sampler=None),
    "greedy": generating(tiny.bag, sampler=jd.joint(temperature=0.0)),
    "links of every kind": generating(
        tiny.bag, sampler=jd.chain(*EVERY_KIND), loop="scan"
    ),
    "more links": generating(
        tiny.bag,
        sampler=jd.chain(
            *(jd.FrequencyPenalty(0.3), jd.NoRepeatNGram(3)),
            *(jd.TopK(20), jd.Typical(0.9)),
        ),
    ),
    "a link with a memory": generating(tiny.bag, sampler=jd.Mirostat(3.0, 0.1)),
    "an edit after a truncation": generating(
        tiny.bag, sampler=jd.chain(jd.TopK(9), jd.PresencePenalty(0.5))
    ),
    "several samples": generating(
        tiny.bag, sampler=None, num_samples=2, observe=["entropy"]
    ),
    "kernels in float32": generating(kernel_llama, "float32", sampler=None),
    "kernels in bfloat16": generating(
        kernel_llama, "bfloat16", sampler=jd.joint(top_k=5)
    ),
    "long rows by blocks": long_rows_by_blocks,
    "a recurrent model": generating(recurrent),
    "a guided model": generating(guided, sampler=jd.Temperature(0.0)),
    "beams": beams,
    "stochastic beams": stochastic_beams,
    "scores under a sampler": scores,
    "score and slope": score_and_slope,
    "split weights": split_weights,
    "sharded prompts": sharded_prompts,
}
# What has a neighbour among the others that takes the same way through the code.
LATER = (
    *("joint", "plain", "greedy", "more links", "a link with a memory"),
    *("an edit after a truncation", "several samples", "a recurrent model"),
    *("kernels in bfloat16", "stochastic beams", "scores under a sampler"),
    *("long rows by blocks", "a guided model"),
)


def outcome(case):
    try:
        case()
    except Exception:
        return traceback.format_exc()[-3000:]
    return "ok"


if __name__ == "__main__":
    import tests.conftest  # noqa: F401  # programs compile as in the other tests

    assert jax.device_count() == 4, jax.devices()
    for name in sys.argv[1:] or CASES:
        print(json.dumps({"case": name, "outcome": outcome(CASES[name])}), flush=True)
