"""Recurrent language models (Mamba, RWKV, LSTM): a state in place of columns.

Decoding may read a row's last token again, and pads prompts; a state that only moves on
would count both. So each row keeps the state before its last token, too, and a number:
how many tokens are in it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core import varying
from jaxdecode.core.functions import Alike
from jaxdecode.core.pytree import pytree, replace, static
from jaxdecode.models.adapters import as_logits, check_sizes, with_rows
from jaxdecode.models.columns import take_column


@pytree
class RecurrentCache:
    """The states of B rows.

    Attributes:
      before: the state before each row's last token; leaves [B, ...].
      after: the state with it.
      count: int32 [B], tokens in `after`.
    """

    before: Any
    after: Any
    count: jax.Array


@pytree
class RecurrentModel:
    """A step function with a state, as a model; made by `from_recurrent`.

    Args:
      params: what the function takes first; any pytree.
      function: `(params, tokens [B], state) -> (logits [B, V], state)`.
      make_state: `rows -> state`.
      vocab_size: number of token ids.
      max_length: positions the function can handle.
    """

    params: Any
    function: Callable[..., Any] = static()
    make_state: Callable[[int], Any] = static()
    vocab_size: int = static()
    max_length: int = static()

    def __post_init__(self):
        check_sizes(self)

    def init_cache(self, rows: int, length: int) -> RecurrentCache:
        """Return the states of rows that have read nothing."""
        del length  # a state is as large after any number of tokens
        state = with_rows("from_recurrent", self.make_state(rows), rows)
        return RecurrentCache(state, state, jnp.zeros((rows,), jnp.int32))

    def read_prompts(
        self, prompts: Any, cache: RecurrentCache, *, reversible: bool
    ) -> tuple[jax.Array, RecurrentCache]:
        """Read prompts up to their lengths; return the logits after each, [B, V]."""
        del reversible  # a scan can be differentiated either way
        tokens, lengths = jnp.asarray(prompts.tokens), jnp.asarray(prompts.lengths)
        columns = jnp.arange(tokens.shape[1], dtype=jnp.int32)
        nothing = jnp.zeros((tokens.shape[0], self.vocab_size), jnp.float32)

        def step(carry, column):
            last, cache = carry
            token, place = column
            logits, read = self._read(
                token, jnp.broadcast_to(place, lengths.shape), cache
            )
            inside = place < lengths
            return (_where(inside, logits, last), _where(inside, read, cache)), None

        carry = (nothing, cache)
        given = (tokens, lengths, self.params)
        return varying.scan(step, carry, (tokens.T, columns), given=given)[0]

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: RecurrentCache,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, RecurrentCache]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`).

        A row may go on, read its last token again, or begin anew at position 0; at any
        other position its logits are NaN, for its state cannot go back so far.
        """

        def step(cache, column):
            token, position = column
            logits, cache = self._read(token, position, cache)
            return cache, logits

        columns = (tokens.T, positions.T)
        cache, logits = varying.scan(step, cache, columns, given=self.params)
        logits = jnp.swapaxes(logits, 0, 1)
        return logits if at is None else take_column(logits, at), cache

    def _read(self, token, position, cache):
        fresh = self.make_state(token.shape[0])
        again = position == cache.count - 1
        known = again | (position == cache.count) | (position == 0)
        before = _where(again, cache.before, cache.after)
        before = _where(position == 0, fresh, before)
        logits, after = self.function(self.params, token, before)
        wanted = (token.shape[0], self.vocab_size)
        logits = as_logits("from_recurrent", logits, wanted)
        logits = jnp.where(known[:, None], logits, jnp.nan)
        return logits, replace(cache, before=before, after=after, count=position + 1)


def from_recurrent(
    function: Callable[..., Any],
    params: Any,
    *,
    vocab_size: int,
    max_length: int,
    init_state: Callable[[int], Any],
) -> RecurrentModel:
    """Wrap a function that reads one token of each row and carries a state.

    Args:
      function: `(params, tokens [B], state) -> (logits [B, V], state)`, logits of any
        float type. One that does something else is another program.
      params: its first argument, any pytree of arrays.
      vocab_size: number of token ids, V.
      max_length: longest sequence to decode.
      init_state: `rows -> state`, a pytree with the row axis first in every leaf.

    Returns:
      A pytree with the `Model` protocol, which reads prompts itself.
    """
    return RecurrentModel(
        params=params,
        function=Alike(function),
        make_state=Alike(init_state),
        vocab_size=vocab_size,
        max_length=max_length,
    )


def _where(rows: jax.Array, these: Any, others: Any) -> Any:
    """Take some rows of one pytree and the rest of another."""

    def pick(a, b):
        return jnp.where(rows.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, these, others)
