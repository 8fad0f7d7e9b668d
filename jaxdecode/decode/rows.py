"""The sequences that are being written: what was asked for, where each one stands.

A row is one sequence and knows nothing of its neighbours: rows of other lengths, budgets
and ends live in one value. Admitting a request is `put_rows(rows, slot, started)`,
harvesting is `take_rows(rows, done)`, following a beam's parents is `take_rows(rows,
parents)`. Undoing tokens is moving `length` back, with the `links` and the `cursor` of
that time, `unread` set and `status` RUNNING: columns beyond the length are never seen.
Only `links` of a row that has ended go on changing beside running rows: keep them at the
end of a text that is to be continued.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.keys import step_keys
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.rows import Bank
from jaxdecode.core.shapes import Array
from jaxdecode.core.status import Status
from jaxdecode.decode.observables import Observable
from jaxdecode.transforms import Chain, Context


@pytree
class Rows:
    """R sequences; leaves [R, ...]. What evolves is None until they are started.

    Attributes:
      chain: the sampler, every parameter [R].
      key: row keys [R]; None where nothing is drawn.
      prompt_length: int32 [R].
      budget: int32 [R], how many tokens a row may get.
      ends: int32 [R, E], ids that end a row, padded with an id no vocabulary has.
      stops: a `Bank` of `Stops`, what else ends a row; or None.
      cache: what the model remembers, leaves [R, ...].
      tokens: int32 [R, T], prompt and generated tokens; column is position.
      length: int32 [R], how many of them there are.
      status: int32 [R], a `Status`.
      links: the states of the chain's links, leaves [R, ...].
      cursor: int32 [R], the state of the row among its stop strings.
      logits: float32 [R, V], those after the prompt, from which its first token comes.
      unread: bool [R], whether the last token is not in the cache yet.
      model_logprobs: float32 [R, N] by generated token.
      sampling_logprobs: float32 [R, N].
      observed: what is reported of each token, leaves [R, N, ...].
      observables: the names of what is reported. Static.
    """

    # -- what was asked for
    chain: Chain
    key: jax.Array | None
    prompt_length: Array
    budget: Array
    ends: Array
    stops: Bank | None = None
    # -- what evolves
    cache: Any = None
    tokens: Any = None
    length: Any = None
    status: Any = None
    links: Any = None
    cursor: Any = None
    logits: Any = None
    unread: Any = None
    # -- what is emitted, at column length - prompt_length of the row itself
    model_logprobs: Any = None
    sampling_logprobs: Any = None
    observed: Any = None
    observables: tuple[Observable, ...] = static(default=())


def is_running(rows: Rows) -> jax.Array:
    """Whether each row still gets tokens, bool [R]."""
    return rows.status == Status.RUNNING


def any_running(rows: Rows) -> jax.Array:
    """Whether some row still gets tokens, a bool."""
    return jnp.any(is_running(rows))


def contexts_of(rows: Rows, vocab_size: int) -> Context:
    """Return what every row knows of its past, with the key of its next token."""
    return Context(
        tokens=rows.tokens,
        length=rows.length,
        prompt_length=rows.prompt_length,
        key=None if rows.key is None else step_keys(rows.key, rows.length),
        vocab_size=vocab_size,
        budget=rows.budget,
        ends=rows.ends,
    )


def generated_tokens(rows: Rows, pad_id: Any) -> jax.Array:
    """Return each row's new tokens, left-aligned and padded, int32 [R, N]."""
    columns = jnp.arange(rows.model_logprobs.shape[1])
    index = rows.prompt_length[:, None] + columns[None, :]
    inside = jnp.minimum(index, rows.tokens.shape[1] - 1)
    tokens = jnp.take_along_axis(rows.tokens, inside, axis=1)
    return jnp.where(index < rows.length[:, None], tokens, pad_id)
