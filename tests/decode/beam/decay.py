"""A small model whose logits depend on everything read so far, and a slow twin of it.

A cache that is not reordered with the beams, or reordered twice, changes its logits.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.pytree import pytree, static


@pytree
class Decay:
    """Logits are a sum of the table's rows of all tokens read, halved at each step.

    With `memory` 0 it is a first-order Markov chain.
    """

    table: jax.Array
    vocab_size: int = static()
    memory: float = static(default=0.5)
    max_length: int = static(default=48)

    def init_cache(self, rows, length):
        return jnp.zeros((rows, length), jnp.int32)

    def __call__(self, tokens, positions, cache, *, at=None):
        put = jax.lax.dynamic_update_slice
        cache = jax.vmap(lambda row, new, p: put(row, new, (p[0],)))(
            cache, tokens, positions
        )
        column = jnp.arange(cache.shape[1])[None, None, :]
        age = positions[:, :, None] - column
        weight = jnp.where(age >= 0, self.memory ** age.astype(jnp.float32), 0.0)
        vectors = jnp.asarray(self.table)[cache]  # [B, T, V]
        logits = jnp.einsum("bst,btv->bsv", weight, vectors)
        if at is not None:
            logits = jnp.take_along_axis(logits, at[:, None, None], axis=1)[:, 0]
        return logits, cache


def decay(vocab_size, *, seed=0, memory=0.5, scale=2.0):
    """Return a random `Decay`."""
    table = np.random.default_rng(seed).normal(size=(vocab_size, vocab_size)) * scale
    return Decay(table.astype(np.float32), vocab_size=vocab_size, memory=memory)


def logprobs_of(model, edit=None):
    """Return the function from a token list to the next token's log-probs, float64."""
    table = np.asarray(model.table, np.float64)

    def of(tokens):
        ages = np.arange(len(tokens))[::-1].astype(np.float64)
        logits = (model.memory**ages)[:, None] * table[np.asarray(tokens)]
        logits = logits.sum(axis=0)
        row = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        return row if edit is None else edit(row, tokens)

    return of


def hypotheses(found, row):
    """Return [(score, tokens)] of one prompt of a result."""
    return [
        (float(score), np.asarray(tokens)[:length].tolist())
        for score, tokens, length in zip(
            found.scores[row], found.tokens[row], found.lengths[row], strict=True
        )
        if length
    ]


def agree(found, row, expected, many):
    """Assert that one prompt's hypotheses are the expected ones, best first."""
    got = hypotheses(found, row)
    assert [tokens for _, tokens in got] == [item[1] for item in expected[:many]]
    np.testing.assert_allclose(
        [score for score, _ in got],
        [item[0] for item in expected[:many]],
        rtol=2e-5,
        atol=2e-5,
    )
