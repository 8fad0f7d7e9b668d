"""Functions that know one row only, as models of many.

Most code that was written for one text has a cache that no batch could share: one index
for all rows, layers first, a ring. Every row then gets a cache of its own, stacked on a
new first axis, and `vmap` runs the function for each of them.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.functions import Alike
from jaxdecode.core.protocol import ModelError
from jaxdecode.core.pytree import pytree, static
from jaxdecode.models.adapters import check_sizes
from jaxdecode.models.columns import take_column


@pytree
class SingleModel:
    """A function of one row with a cache of any layout, as a model of many rows.

    Made by `from_single` and `from_linen`.

    Args:
      params: what the function takes first; any pytree.
      function: `(params, tokens, positions, cache) -> (logits, cache)` of one row.
      make_cache: `(params, length) -> cache` of one row.
      vocab_size: number of token ids.
      max_length: positions the function can handle.
    """

    params: Any
    function: Callable[..., Any] = static()
    make_cache: Callable[..., Any] = static()
    vocab_size: int = static()
    max_length: int = static()

    def __post_init__(self):
        check_sizes(self)

    def init_cache(self, rows: int, length: int) -> Any:
        """Return one cache per row, stacked on a new first axis."""
        cache = self.make_cache(self.params, length)
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (rows, *jnp.shape(leaf))), cache
        )

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Any,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""

        def one(tokens, positions, cache):
            return self.function(self.params, tokens[None], positions[None], cache)

        logits, cache = jax.vmap(one)(tokens, positions, cache)
        rows, columns = tokens.shape
        wanted = {(rows, 1, columns, self.vocab_size), (rows, columns, self.vocab_size)}
        if logits.shape not in wanted:
            raise ModelError(
                "from_single: a row's logits must have shape "
                f"{(1, columns, self.vocab_size)} (one row, columns, vocabulary), "
                f"got {logits.shape[1:]}."
            )
        logits = logits.reshape(rows, columns, -1).astype(jnp.float32)
        return logits if at is None else take_column(logits, at), cache


def from_single(
    function: Callable[..., Any],
    params: Any,
    *,
    vocab_size: int,
    max_length: int,
    init_cache: Callable[..., Any],
) -> SingleModel:
    """Wrap a function that knows a batch of one, with a cache in any layout.

    The function must put a token where `positions` says, not where an index of its own
    stands: columns are read again, prompts are padded, and rows are of different
    lengths. A cache with an index takes it from there: `index = positions[0, 0]`.

        def read(params, tokens, positions, cache):
            cache = cache | {"index": positions[0, 0]}
            return my_model(params, tokens, cache)

    Args:
      function: `(params, tokens [1, S], positions [1, S], cache) -> (logits, cache)`,
        logits [1, S, V] or [S, V] of any float type. One that does something else is
        another program.
      params: its first argument, any pytree of arrays.
      vocab_size: number of token ids, V.
      max_length: positions it can handle.
      init_cache: `length -> cache` of one row, any pytree of arrays; a function of
        `(rows, length)` is called with one row.

    Returns:
      A pytree with the `Model` protocol.
    """
    return SingleModel(
        params=params,
        function=Alike(function),
        make_cache=RowCache.of(init_cache),
        vocab_size=vocab_size,
        max_length=max_length,
    )


@dataclasses.dataclass(frozen=True)
class RowCache:
    """`(params, length) -> cache` of one row, as a value.

    Args:
      function: of `length`, or of `(rows, length)`.
      takes_rows: which of the two.
    """

    function: Alike
    takes_rows: bool

    @staticmethod
    def of(function: Callable[..., Any]) -> "RowCache":
        """Look at what a function takes."""
        needed = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind.name.startswith("POSITIONAL")
            and parameter.default is inspect.Parameter.empty
        ]
        return RowCache(Alike(function), takes_rows=len(needed) > 1)

    def __call__(self, params: Any, length: int) -> Any:
        """Return the cache of one row."""
        del params
        return self.function(1, length) if self.takes_rows else self.function(length)
