"""Small models that the tests share, so that their compiled programs are shared too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.pytree import pytree, static
from jaxdecode.models import ModelConfig, build, random_params
from jaxdecode.transforms import Temperature

VOCAB = 37
COLUMNS = 48
# Draws what no sampler draws, by a link: its programs serve every temperature.
PLAIN = Temperature(1.0)


@functools.cache
def llama(vocab_size=VOCAB, seed=0, sharpness=4.0):
    """Return a random llama of two layers; sharper logits make settings matter."""
    config = ModelConfig(
        family="llama",
        vocab_size=vocab_size,
        width=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        mlp_width=24,
        max_length=COLUMNS,
    )
    params = dict(random_params(config, seed))
    params["head.weight"] = params["head.weight"] * np.float32(sharpness)
    return build(config, params)


@pytree
class Bag:
    """A model of one table: logits are a decaying sum of the rows of what was read.

    Its rows do not mix, and no product runs over the batch.
    """

    table: jax.Array
    vocab_size: int = static(default=VOCAB)
    max_length: int = static(default=COLUMNS)

    def init_cache(self, rows, length):
        return jnp.zeros((rows, length, VOCAB), jnp.float32)

    def __call__(self, tokens, positions, cache, *, at=None):
        new = jnp.asarray(self.table)[tokens]
        put = jax.lax.dynamic_update_slice
        cache = jax.vmap(lambda row, n, p: put(row, n, (p[0], 0)))(
            cache, new, positions
        )
        column = jnp.arange(cache.shape[1])[None, None, :]
        age = positions[:, :, None] - column
        weight = jnp.where(age >= 0, 0.5 ** age.astype(jnp.float32), 0.0)
        seen = jnp.where((age >= 0)[..., None], cache[:, None], 0.0)
        logits = jnp.sum(weight[..., None] * seen, axis=2)
        if at is not None:
            logits = jnp.take_along_axis(logits, at[:, None, None], axis=1)[:, 0]
        return logits, cache


class Opaque(Bag):
    """The same model as an object that JAX cannot look into."""


def bag(seed=0, poison=None, kind=Bag):
    """Return a random `Bag`; token ids in `poison` have rows of that value."""
    table = np.random.default_rng(seed).normal(size=(VOCAB, VOCAB)) * 2
    for token, value in (poison or {}).items():
        table[token] = value
    return kind(table.astype(np.float32))


def forward(model, width=COLUMNS):
    """Return a function from a token list to the logits after its last token.

    It reads the whole padded sequence each time: the slow twin of the cached loop.
    """

    # One program for all models of a structure; an opaque one is the bag that it hides.
    seen = bag_of(model) if isinstance(model, Opaque) else model

    def of(tokens):
        padded = np.zeros((1, width), np.int32)
        padded[0, : len(tokens)] = tokens
        at = np.asarray([len(tokens) - 1], np.int32)
        return np.asarray(_full(seen, padded, at))

    return of


def bag_of(model):
    """Return the same model as data that JAX can look into."""
    return Bag(model.table, model.vocab_size, model.max_length)


@jax.jit
def _full(model, tokens, at):
    width = tokens.shape[1]
    positions = jnp.arange(width, dtype=jnp.int32)[None, :]
    return model(tokens, positions, model.init_cache(1, width), at=at)[0][0]
