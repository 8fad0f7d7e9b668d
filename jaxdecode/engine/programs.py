"""What runs on the device: a few compiled programs, each of one shape per structure.

A prompt is read into a cache of one row, in blocks of columns. `admit` puts that row into
a slot of a pool, and the pool is advanced by a number of steps that is data. The last
token of a prompt is not read with it but in the row's first step, beside the other rows:
so what a row computes depends on its own tokens only, not on who runs beside it.

Recompiles for another model structure, number of slots, cache length, chunk, block width
or structure of the request; never for other values.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model, logits_of
from jaxdecode.core.pytree import pytree, replace
from jaxdecode.core.rows import (
    own_tables,
    put_rows,
    repeat_rows,
    resolve_banks,
    row_axes,
)
from jaxdecode.core.shapes import Array
from jaxdecode.core.status import Status
from jaxdecode.core.threefry import fold_in
from jaxdecode.decode import steps
from jaxdecode.decode.prefilling import prefill
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.rows import Rows, contexts_of


@pytree
class Report:
    """What a pool wrote in one chunk of W steps.

    Attributes:
      tokens: int32 [R, W], new tokens, left-aligned; the rest means nothing.
      model_logprobs: float32 [R, W].
      sampling_logprobs: float32 [R, W].
      observed: what was asked for of each token, leaves [R, W, ...].
      generated: int32 [R], how many tokens each row has by now, of all chunks.
      new: int32 [R], how many of them are new.
      status: int32 [R], a `Status`.
    """

    tokens: Array
    model_logprobs: Array
    sampling_logprobs: Array
    observed: Any
    generated: Array
    new: Array
    status: Array


@compiled(static=("length",))
def empty_cache(model: Model, *, length: int) -> Any:
    """Return an empty cache of one row."""
    return model.init_cache(1, length)


@compiled()
def copied(model: Model, cache: Any) -> Any:
    """Return a copy of a cache, to be kept while the cache itself is written on."""
    del model
    return jax.tree.map(jnp.copy, cache)


@compiled(donate=(1,))
def read_block(model: Model, cache: Any, tokens: Array, start: Array) -> Any:
    """Read tokens [1, S] from position `start` on into a cache of one row."""
    width = tokens.shape[1]
    positions = jnp.asarray(start) + jnp.arange(width, dtype=jnp.int32)[None]
    at = jnp.zeros((1,), jnp.int32)
    return logits_of(model, jnp.asarray(tokens), positions, cache, at=at)[1]


@compiled(static=("length", "platform"))
def read_whole(
    model: Model, prompt: Prompts, *, length: int, platform: Platform
) -> Any:
    """Read a prompt at once: for models that must know where a prompt ends."""
    cache = model.init_cache(1, length)
    return prefill(model, prompt, cache, platform=platform)[1]


@compiled(static=("slots", "length"))
def empty_pool(
    model: Model, asked: Rows, key: jax.Array, *, slots: int, length: int
) -> Rows:
    """Return rows that have all ended, in the structure of one request and its key."""
    asked = replace(asked, key=key)
    rows = _begun(model, asked, model.init_cache(1, length), length)
    rows = own_tables(repeat_rows(rows, slots))
    ended = jnp.full((slots,), int(Status.LENGTH), jnp.int32)
    return replace(rows, status=ended)


@compiled(donate=(1,))
def admit(
    model: Model,
    rows: Rows,
    slot: Array,
    asked: Rows,
    key: jax.Array,
    sample: Array,
    cache: Any,
    tokens: Array,
) -> tuple[Rows, jax.Array]:
    """Put a request whose prompt was read into a slot.

    Args:
      model: the model.
      rows: the pool. Consumed.
      slot: int32, where to.
      asked: one row, not started, without a key.
      key: that of the prompt, [1].
      sample: int32, which sample of the prompt it is.
      cache: one row, holds the prompt but for its last token.
      tokens: int32 [1, T], the prompt.

    Returns:
      The pool, and int32: how many tokens the row must have before a stop counts.
    """
    key = fold_in(key, jnp.reshape(sample, (1,)))
    length = rows.tokens.shape[1]
    row = _begun(model, replace(asked, key=key), cache, length, tokens)
    return put_rows(rows, slot, row), _earliest_end(model, row)


@compiled(static=("chunk", "platform"), donate=(1,))
def advance(
    model: Model,
    rows: Rows,
    dropped: Array,
    limit: Array,
    *,
    chunk: int,
    platform: Platform,
) -> tuple[Rows, Report]:
    """Bring a pool some steps further, at most `chunk`, or until all rows have ended.

    Args:
      model: the model.
      rows: the pool. Consumed.
      dropped: bool [R], rows that nobody wants any more; they end here.
      limit: int32, how many steps, at most `chunk`.
      chunk: columns of the report, W. Static.
      platform: what the program is compiled for. Static.
    """
    status = jnp.where(dropped, int(Status.LENGTH), rows.status)
    before = rows.length
    rows = replace(rows, status=status)
    rows = steps.finish(model, rows, width=0, platform=platform, limit=limit)
    return rows, _report(rows, before, chunk)


def _begun(model, asked: Rows, cache, length: int, tokens: Any = None) -> Rows:
    """Return one row, with tables of its own, whose last token is still unread."""
    tokens = jnp.zeros((1, length), jnp.int32) if tokens is None else tokens
    logits = jnp.zeros((1, model.vocab_size), jnp.float32)
    rows = steps.begin(
        own_tables(asked),
        cache,
        jnp.asarray(tokens),
        logits,
        new_tokens_max=length,
        width=length,
    )
    return replace(rows, unread=jnp.ones((1,), bool))


def _earliest_end(model, row: Rows) -> jax.Array:
    def of(chain, context):
        return jnp.asarray(resolve_banks(chain).earliest_end(context), jnp.int32)

    context = contexts_of(row, model.vocab_size)
    return jax.vmap(of, (row_axes(row.chain), row_axes(context)))(row.chain, context)[0]


def _report(rows: Rows, before: jax.Array, chunk: int) -> Report:
    first = before - rows.prompt_length
    window = jnp.arange(chunk, dtype=jnp.int32)[None, :]

    def new(values, start):
        column = jnp.minimum(start[:, None] + window, values.shape[1] - 1)
        column = column.reshape(*column.shape, *[1] * (values.ndim - 2))
        return jnp.take_along_axis(values, column, axis=1)

    return Report(
        tokens=new(rows.tokens, before),
        model_logprobs=new(rows.model_logprobs, first),
        sampling_logprobs=new(rows.sampling_logprobs, first),
        observed={name: new(seen, first) for name, seen in rows.observed.items()},
        generated=rows.length - rows.prompt_length,
        new=rows.length - before,
        status=rows.status,
    )
