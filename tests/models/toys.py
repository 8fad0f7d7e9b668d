"""A causal toy in every layout that other people's code has, beside its plain form."""

import jax
import jax.numpy as jnp
import numpy as np

VOCAB, WIDTH, LENGTH = 13, 6, 24
SIZES = {"vocab_size": VOCAB, "max_length": LENGTH}
PROMPTS = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5, 8, 9, 7, 9, 3]]


def make_params(seed=0):
    draw = np.random.default_rng(seed).standard_normal
    shapes = {
        "table": (VOCAB, WIDTH),
        "places": (LENGTH + 8, WIDTH),
        "head": (WIDTH, VOCAB),
    }
    return {n: jnp.asarray(draw(s), jnp.float32) for n, s in shapes.items()}


def embed(params, tokens, positions):
    return params["table"][tokens] + params["places"][positions]


def mix(params, found, seen):
    """Attention of vectors [S, W] over kept ones [T, W] where `seen` [S, T]."""
    scores = jnp.where(seen, found @ params["kept"].T, -1e30)
    return jax.nn.softmax(scores, axis=-1) @ params["kept"] @ params["head"]


def whole(params, tokens):
    """Logits [T, V] of one row without any cache."""
    positions = jnp.arange(tokens.shape[0], dtype=jnp.int32)
    x = embed(params, tokens, positions)
    return mix(params | {"kept": x}, x, positions[None, :] <= positions[:, None])


def batched(params, tokens):
    """Logits [B, T, V], every row for itself."""
    return jax.vmap(whole, (None, 0))(params, tokens)


def with_cache(params, tokens, positions, cache):
    """The same with a cache [B, T, W], of many rows at once."""

    def row(tokens, positions, cache):
        x = embed(params, tokens, positions)
        cache = cache.at[positions].set(x, mode="drop")
        columns = jnp.arange(cache.shape[0], dtype=jnp.int32)
        seen = columns[None, :] <= positions[:, None]
        return mix(params | {"kept": cache}, x, seen), cache

    return jax.vmap(row)(tokens, positions, cache)


def make_cache(rows, length):
    return jnp.zeros((rows, length, WIDTH), jnp.float32)
