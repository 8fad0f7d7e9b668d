"""What each matrix of a llama-family model is given: moments over a few tokens.

Which channels are loud depends little on what is read, so that random tokens serve
where there is no text; text serves better. Blocks are read one after the other, in
float32, by one compiled program: a model that is mapped from a file is never in memory
as a whole.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdecode.core.platform import backend
from jaxdecode.models.attention import empty_cache, place
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.families.catalog import family_named
from jaxdecode.models.layers import RMSNorm, inputs_of_products
from jaxdecode.models.quantize import Inputs

ROWS, LENGTH = 2, 128


def input_moments(
    config: ModelConfig, params: Mapping[str, Any], tokens: np.ndarray | None = None
) -> dict[str, Inputs]:
    """Return what the matrices of a llama-family model are given.

    Args:
      config: sizes and switches, of family "llama".
      params: floating-point arrays by name.
      tokens: what to read, int [B, S]; None for random ones, always the same.

    Returns:
      The inputs by the name of the first matrix that reads them:
      `layers.N.attention.q`, `layers.N.attention.o`, `layers.N.mlp.gate`,
      `layers.N.mlp.down`, and `head`, whether or not it is tied.
    """
    if tokens is None:
        shape = ROWS, min(LENGTH, config.max_length)
        tokens = np.random.default_rng(0).integers(0, config.vocab_size, shape)
    x = jnp.asarray(np.asarray(params["embedding.weight"][tokens], np.float32))
    x = x * config.embedding_scale
    found: dict[str, Inputs] = {}
    last: dict[str, jax.Array] = {}
    for layer in range(config.num_layers):
        prefix = f"layers.{layer}."
        x, moments = _read(config.lone_layer(layer), _weights(params, prefix), x)
        # One block is computed while the weights of the next are read, and no more.
        found |= {name: _inputs(value) for name, value in last.items()}
        last = {prefix + name: value for name, value in moments.items()}
    found |= {name: _inputs(value) for name, value in last.items()}
    norm = RMSNorm(config.width, eps=config.norm_eps)
    norm.weight[...] = jnp.asarray(params["norm.weight"], jnp.float32)
    return found | {"head": _inputs(_moments(norm(x)))}


@functools.partial(jax.jit, static_argnums=0)
def _read(
    config: ModelConfig, weights: dict[str, jax.Array], x: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    block = _block(config, weights)
    positions = jnp.broadcast_to(jnp.arange(x.shape[1], dtype=jnp.int32), x.shape[:2])
    platform = backend()  # the kernels may not be there yet, and no matrix is theirs
    cache = empty_cache(config, x.shape[0], x.shape[1], "float32", platform=platform)
    where, cache = place(positions, cache, config, platform=platform)
    names = {id(part): ".".join(map(str, path)) for path, part in nnx.iter_graph(block)}
    with inputs_of_products() as seen:
        x, _ = block(x, where, cache, 0)
    return x, {names[id(first)]: _moments(rows) for first, rows in seen}


def _block(config: ModelConfig, weights: dict[str, jax.Array]) -> Any:
    make = family_named(config.family).module().block
    graph, state = nnx.split(make(config, 0, "float32", rngs=None))
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    names = [
        ".".join(str(step.key) for step in path if hasattr(step, "key"))
        for path, _ in paths
    ]
    return nnx.merge(graph, jax.tree.unflatten(structure, [weights[n] for n in names]))


def _weights(params: Mapping[str, Any], prefix: str) -> dict[str, jax.Array]:
    return {
        name.removeprefix(prefix): jnp.asarray(params[name], jnp.float32)
        for name in params
        if name.startswith(prefix)
    }


def _moments(x: jax.Array) -> jax.Array:
    return jnp.mean(jnp.stack([x, x * x]), axis=tuple(range(1, x.ndim)))


def _inputs(moments: jax.Array) -> Inputs:
    mean, square = np.asarray(moments)
    return Inputs(mean, square)
