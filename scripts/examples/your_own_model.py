"""Your own model, decoded: nnx, linen, a scanned stack, equinox, a recurrent one.

Each adapter below is a few lines around a tiny untrained model, is checked with
`jaxdecode.testing.check_model`, and writes a few tokens. Replace the tiny model by yours,
keep the lines of the adapter, and run the check before you trust a text. Beside this
file: `keras_hub_model.py`, and `t5.py` for an encoder with a decoder. There is no recipe
for Flax models of transformers: version 5 has none; one kept from version 4 is linen.

    python scripts/examples/your_own_model.py --kinds nnx linen
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import jaxdecode as jd
from jaxdecode.testing import check_model

VOCAB, WIDTH, LENGTH = 32, 16, 32
SIZES = {"vocab_size": VOCAB, "max_length": LENGTH}


# ---- nnx: a module that reads tokens [B, S] at positions [B, S] with a cache [B, T, W]


class Averaging(nnx.Module):
    """Each token averages the embeddings up to its own position."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCAB, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, VOCAB, rngs=rngs)

    def __call__(self, tokens, positions, cache):
        rows = jnp.arange(tokens.shape[0])[:, None]
        cache = cache.at[rows, positions].set(self.embed(tokens), mode="drop")
        seen = jnp.arange(cache.shape[1]) <= positions[..., None]
        mean = (seen @ cache) / (positions[..., None] + 1.0)
        return self.head(jnp.tanh(mean)), cache


def from_nnx():
    graph, state = nnx.split(Averaging(nnx.Rngs(0)))

    def read(state, tokens, positions, cache):
        return nnx.merge(graph, state)(tokens, positions, cache)

    def init_cache(rows, length):
        return jnp.zeros((rows, length, WIDTH))

    return jd.from_function(read, state, init_cache=init_cache, **SIZES)


# ---- linen: flax's own attention with decode=True, which takes a token a call


class Attending(nn.Module):
    """One attention layer that keeps its cache in the collection "cache"."""

    decode: bool = True

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCAB, WIDTH)(tokens)
        x = x + nn.MultiHeadDotProductAttention(2, decode=self.decode)(x)
        return nn.Dense(VOCAB)(x)


def from_linen():
    params = Attending(False).init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    return jd.from_linen(
        Attending(), params, cache="cache", token_by_token=True, **SIZES
    )


# ---- a stack by `nn.scan`: one collection with the layers first


class Layer(nn.Module):
    """What is repeated."""

    decode: bool

    @nn.compact
    def __call__(self, x, _):
        return x + nn.MultiHeadDotProductAttention(2, decode=self.decode)(x), None


class Stack(nn.Module):
    """Three layers with their weights and caches stacked."""

    decode: bool = True

    @nn.compact
    def __call__(self, tokens):
        axes = {"params": 0, "cache": 0}
        layers = nn.scan(Layer, axes, split_rngs={"params": True}, length=3)
        x, _ = layers(self.decode)(nn.Embed(VOCAB, WIDTH)(tokens), None)
        return nn.Dense(VOCAB)(x)


def from_stack():
    params = Stack(False).init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    return jd.from_linen(Stack(), params, cache="cache", token_by_token=True, **SIZES)


# ---- equinox: a module of ONE row with an index in its cache


def single():
    import equinox as eqx

    class Single(eqx.Module):
        embed: eqx.nn.Embedding
        head: eqx.nn.Linear

        def __call__(self, tokens, cache):
            kept, index = cache
            x = jax.vmap(self.embed)(tokens)
            kept = jax.lax.dynamic_update_slice(kept, x, (index, 0))
            places = index + jnp.arange(len(tokens))
            seen = jnp.arange(len(kept)) <= places[:, None]
            mean = (seen @ kept) / (places[:, None] + 1.0)
            return jax.vmap(self.head)(jnp.tanh(mean)), (kept, index + len(tokens))

    one, two = jax.random.split(jax.random.key(0))
    return Single(
        eqx.nn.Embedding(VOCAB, WIDTH, key=one), eqx.nn.Linear(WIDTH, VOCAB, key=two)
    )


def from_equinox():
    import equinox as eqx

    arrays, rest = eqx.partition(single(), eqx.is_array)

    def read(arrays, tokens, positions, cache):
        cache = (cache[0], positions[0, 0])  # not where its own index stands
        return eqx.combine(arrays, rest)(tokens[0], cache)

    def init_cache(length):
        return jnp.zeros((length, WIDTH)), jnp.int32(0)

    return jd.from_single(read, arrays, init_cache=init_cache, **SIZES)


# ---- recurrent: a state in place of a cache


def cell_and_embed():
    cell = nnx.GRUCell(WIDTH, WIDTH, rngs=nnx.Rngs(0))
    return cell, nnx.Embed(VOCAB, WIDTH, rngs=nnx.Rngs(1))


def from_recurrent():
    graph, state = nnx.split(cell_and_embed())

    def read(state, tokens, carry):
        cell, embed = nnx.merge(graph, state)
        carry, output = cell(carry, embed(tokens))
        return embed.attend(output), carry

    def init_state(rows):
        return jnp.zeros((rows, WIDTH))

    return jd.from_recurrent(read, state, init_state=init_state, **SIZES)


KINDS = {
    "nnx": from_nnx,
    "linen": from_linen,
    "stack": from_stack,
    "equinox": from_equinox,
    "recurrent": from_recurrent,
}


def main(argv=None):
    """Check each model, print what it writes, and return the tokens by kind."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    prompts, written = [[3, 1, 4], [1, 5, 9, 2, 6]], {}
    for kind in options.kinds:
        try:
            model = KINDS[kind]()
        except ImportError as error:
            print(f"{kind:10s} left out: {error}")
            continue
        check_model(model)
        out = jd.generate(model, prompts, options.seed, max_new_tokens=8)
        written[kind] = out.tokens.tolist()
        print(f"{kind:10s} {written[kind]}")
    return written


if __name__ == "__main__":
    main()
