"""Given texts, read some columns at a time, and a sampler replayed over them.

    for start in range(0, longest continuation, chunk):
        logits, cache = model(the columns before these tokens, cache)
        for each token: what the model, the sampler and the observables say of it

The logits of one chunk are in memory at once; going backwards they are computed again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core import varying
from jaxdecode.core.keys import step_keys
from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model, logits_of
from jaxdecode.core.pytree import pytree
from jaxdecode.decode.observables import Observable, observe_step
from jaxdecode.decode.prefilling import prefill
from jaxdecode.decode.prompts import Prompts
from jaxdecode.sampling import init_rows, observe, process_seen, update_rows
from jaxdecode.sampling.stats import logprobs_of
from jaxdecode.transforms import Chain, Context, Drawn

OWN, SAMPLED = "own", "sampled"
REFERENCE, KL = "reference", "kl"


@pytree
class Texts:
    """R prompts with a continuation each, and what is to be replayed over them.

    Attributes:
      prompts: R of them.
      given: the continuations, int32 [R, T], and their lengths.
      tokens: int32 [R, S], each prompt and its continuation in one row.
      chain: the sampler, parameters per row; None measures the model alone.
      keys: one per row, [R]; None if no link throws a coin.
    """

    prompts: Prompts
    given: Prompts
    tokens: jax.Array
    chain: Chain | None
    keys: jax.Array | None

    @property
    def width(self) -> int:
        """Columns of the continuations, T."""
        return self.given.tokens.shape[1]

    def contexts(self, step: Any, vocab_size: int) -> Context:
        """Return what the rows know before they draw token `step`, int32 ()."""
        place = self.prompts.lengths + step
        return Context(
            tokens=self.tokens,
            length=place,
            prompt_length=self.prompts.lengths,
            key=None if self.keys is None else step_keys(self.keys, place),
            vocab_size=vocab_size,
        )


def measure(
    model: Model,
    texts: Texts,
    *,
    observables: Sequence[Observable],
    chunk: int | None,
    platform: Platform,
    reference: Model | None = None,
) -> dict[str, jax.Array]:
    """Return what is said of each token of the continuations, [R, T] or [R, T, n].

    The prompt is read first, and alone, as `generate` reads it.

    Args:
      model: the model.
      texts: what is read.
      observables: what is reported beside log-probabilities. Static.
      chunk: columns of a continuation that are read at once; None is all. Static.
      platform: what the program is compiled for. Static.
      reference: another model, which reads along; None for none.

    Returns:
      The log-probabilities under the model ("own") and under the sampler ("sampled"),
      with a reference those under it ("reference") and the divergence from it ("kl"),
      and every observable by its name.
    """
    models = (model,) if reference is None else (model, reference)
    states = None
    if texts.chain is not None:
        states = init_rows(texts.chain, texts.contexts(0, model.vocab_size))

    def say(states, start, logits):
        return _say(texts, states, start, logits, observables, platform)

    return replay(models, texts, say, states, chunk=chunk, platform=platform)


def replay(
    models: Sequence[Model],
    texts: Texts,
    say: Callable[[Any, Any, Sequence[jax.Array]], tuple[Any, dict[str, jax.Array]]],
    states: Any,
    *,
    chunk: int | None,
    platform: Platform,
) -> dict[str, jax.Array]:
    """Return what a function says of each token of the continuations, [R, T, ...].

    Args:
      models: what reads the texts, each by itself.
      texts: what is read.
      say: of states, the number of the first token and each model's logits [C, R, V]
        from which C tokens were drawn; returns the new states, and leaves [C, R, ...]
        by name.
      states: what it is given first.
      chunk: columns of a continuation that are read at once; None is all. Static.
      platform: what the program is compiled for. Static.
    """
    read = [_read_prompts(one, texts, platform) for one in models]
    first, caches = zip(*read, strict=True)
    states, found = say(states, 0, [rows[None] for rows in first])
    if texts.width > 1:
        size = min(chunk or texts.width - 1, texts.width - 1)

        def part(carry, start):
            caches, states = carry
            pairs = zip(models, caches, strict=True)
            read = [_read(one, texts, cache, start, size) for one, cache in pairs]
            logits, caches = zip(*read, strict=True)
            states, said = say(states, start, logits)
            return (caches, states), said

        count = -(-(texts.width - 1) // size)
        if count == 1:
            rest = part((caches, states), 1)[1]
        else:
            starts = 1 + size * jnp.arange(count, dtype=jnp.int32)
            carry, part = (caches, states), jax.checkpoint(part)
            rest = varying.scan(part, carry, starts, given=(texts.given, models))[1]
            rest = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rest)
        found = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), found, rest)
    return {
        name: jnp.swapaxes(leaf[: texts.width], 0, 1) for name, leaf in found.items()
    }


def _read_prompts(model: Model, texts: Texts, platform: Platform):
    cache = model.init_cache(*texts.tokens.shape)
    return prefill(model, texts.prompts, cache, platform=platform, reversible=True)


def joined(prompts: Prompts, given: Prompts, max_length: int) -> jax.Array:
    """Return prompt and continuation of each row, one after the other, int32 [R, S]."""
    width = prompts.tokens.shape[1] + given.tokens.shape[1]
    place = jnp.arange(min(width, max_length), dtype=jnp.int32)[None, :]
    inside = place - prompts.lengths[:, None]

    def pick(table, index):
        index = jnp.clip(index, 0, table.shape[1] - 1)
        return jnp.take_along_axis(table, jnp.broadcast_to(index, inside.shape), axis=1)

    return jnp.where(
        inside < 0, pick(prompts.tokens, place), pick(given.tokens, inside)
    )


def _read(
    model: Model, texts: Texts, cache: Any, start: Any, size: int
) -> tuple[jax.Array, Any]:
    """Return the logits from which tokens `start` to `start + size - 1` are drawn.

    They begin where the row stands, or earlier in rows that would run out of columns:
    what is read twice comes out the same.

    Returns:
      float32 [size, R, V], and the cache with those columns.
    """
    steps = jnp.arange(size, dtype=jnp.int32)[None, :]
    wanted = texts.prompts.lengths + start - 1
    begin = jnp.minimum(wanted, texts.tokens.shape[1] - size)
    positions = begin[:, None] + steps
    read = jnp.take_along_axis(texts.tokens, positions, axis=1)
    logits, cache = logits_of(model, read, positions, cache)
    moved = jnp.minimum(steps + (wanted - begin)[:, None], size - 1)
    logits = jax.vmap(lambda rows, index: rows[index])(logits, moved)
    return jnp.swapaxes(logits, 0, 1), cache


def _say(
    texts: Texts,
    states: Any,
    start: Any,
    read: Sequence[jax.Array],
    observables: Sequence[Observable],
    platform: Platform,
) -> tuple[Any, dict[str, jax.Array]]:
    """Return the links' states after some tokens, and what is said of each, [C, R]."""
    logits, *others = read
    chain, size, vocab = texts.chain, *logits.shape[::2]
    steps = start + jnp.arange(size, dtype=jnp.int32)
    inside = jnp.minimum(steps, texts.width - 1)
    tokens = texts.given.tokens[:, inside].T
    compared = {}
    for other in others:
        compared[REFERENCE] = jax.vmap(_logprobs)(other, tokens)
        compared[KL] = jax.vmap(_divergence)(logits, other)
    if chain is None:
        own = jax.vmap(_logprobs)(logits, tokens)
        return None, {OWN: own, SAMPLED: own, **compared}

    def one(states, inputs):
        step, raw, token = inputs
        contexts = texts.contexts(step, vocab)
        rows, views = process_seen(chain, raw, contexts, states, platform=platform)
        given = (chain, raw, contexts, states, token)
        said = observe_step(observables, *given, platform=platform)
        said |= {OWN: _logprobs(raw, token), SAMPLED: _logprobs(rows, token)}
        seen = observe(chain, views, token)
        known = Drawn(token=token, logprob=said[SAMPLED], context=contexts, seen=seen)
        return update_rows(chain, states, known), said

    inputs = (steps, logits, tokens)
    states, said = varying.scan(one, states, inputs, given=(texts.given, chain))
    return states, said | compared


def _logprobs(rows: jax.Array, token: jax.Array) -> jax.Array:
    """Return the log-probabilities [R] of tokens [R] under rows [R, V]."""
    return logprobs_of(jnp.take_along_axis(rows, token[:, None], axis=1)[:, 0], rows)


def _divergence(rows: jax.Array, others: jax.Array) -> jax.Array:
    """Return the KL divergence [R] of rows [R, V] of logits from others, in nats."""
    log_p, log_q = (jax.nn.log_softmax(x, axis=-1) for x in (rows, others))
    possible = log_p > -jnp.inf
    # A token that p cannot give counts for nothing, and has no slope either.
    log_p, log_q = jnp.where(possible, log_p, 0.0), jnp.where(possible, log_q, 0.0)
    terms = jnp.where(possible, jnp.exp(log_p) * (log_p - log_q), 0.0)
    return jnp.sum(terms, axis=-1)
