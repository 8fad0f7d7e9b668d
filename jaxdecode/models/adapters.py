"""Functions that compute logits, as models.

Each adapter is a pytree with the `Model` protocol: parameters are leaves, functions are
part of the structure, compared by what they are (`core/functions.py`), so that another
function is another program and new parameters are not.
The wrapped function must be causal: logits of a column may depend on earlier columns
of its own row only.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.functions import Alike
from jaxdecode.core.protocol import ModelError
from jaxdecode.core.pytree import assign, pytree, static
from jaxdecode.models.columns import take_column

T = TypeVar("T")


@pytree
class FunctionModel:
    """A function with a cache of its own, as a model; made by `from_function`.

    Args:
      params: what the function takes first; any pytree.
      function: `(params, tokens, positions, cache) -> (logits, cache)`.
      make_cache: `(rows, length) -> cache`.
      vocab_size: number of token ids.
      max_length: positions the function can handle.
    """

    params: Any
    function: Callable[..., Any] = static()
    make_cache: Callable[[int, int], Any] = static()
    vocab_size: int = static()
    max_length: int = static()

    def __post_init__(self):
        check_sizes(self)

    def init_cache(self, rows: int, length: int) -> Any:
        """Return the wrapped model's empty cache, its row axis checked."""
        return with_rows("init_cache", self.make_cache(rows, length), rows)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Any,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""
        logits, cache = self.function(self.params, tokens, positions, cache)
        logits = as_logits("model", logits, (*tokens.shape, self.vocab_size))
        return logits if at is None else take_column(logits, at), cache


@pytree
class RecomputingModel:
    """A function without a cache, as a model; made by `from_logits_function`.

    The cache is the row's tokens. Each call puts the new ones in and reads the whole
    buffer again: a step costs as much as a forward pass over all T columns.

    Args:
      params: what the function takes first; any pytree.
      function: `(params, tokens [B, T]) -> logits [B, T, V]`.
      vocab_size: number of token ids.
      max_length: positions the function can handle.
    """

    params: Any
    function: Callable[..., Any] = static()
    vocab_size: int = static()
    max_length: int = static()

    def __post_init__(self):
        check_sizes(self)

    def init_cache(self, rows: int, length: int) -> jax.Array:
        """Return an empty token buffer, int32 [rows, length]."""
        return jnp.zeros((rows, length), jnp.int32)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: jax.Array,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""
        starts = positions[:, 0]
        update = jax.lax.dynamic_update_slice
        cache = jax.vmap(lambda row, new, i: update(row, new, (i,)))(
            cache, tokens, starts
        )
        logits = self.function(self.params, cache)
        logits = as_logits("model", logits, (*cache.shape, self.vocab_size))
        if at is not None:
            return take_column(logits, starts + at), cache
        columns = tokens.shape[1]
        cut = jax.vmap(lambda row, i: jax.lax.dynamic_slice_in_dim(row, i, columns))
        return cut(logits, starts), cache


def from_function(
    function: Callable[..., Any],
    params: Any,
    *,
    vocab_size: int,
    max_length: int,
    init_cache: Callable[[int, int], Any],
) -> FunctionModel:
    """Wrap a function that keeps its own cache.

    Args:
      function: `(params, tokens, positions, cache) -> (logits, cache)` with int32
        tokens and positions [B, S] (consecutive within a row) and logits [B, S, V] of
        any float type. One that does something else is another program.
      params: its first argument, any pytree of arrays.
      vocab_size: number of token ids, V.
      max_length: positions it can handle.
      init_cache: `(rows, length) -> cache`, a pytree with the row axis first in every
        leaf.

    Returns:
      A pytree with the `Model` protocol.
    """
    return FunctionModel(
        params=params,
        function=Alike(function),
        make_cache=Alike(init_cache),
        vocab_size=vocab_size,
        max_length=max_length,
    )


def from_logits_function(
    function: Callable[..., Any], params: Any, *, vocab_size: int, max_length: int
) -> RecomputingModel:
    """Wrap a function that maps whole sequences to logits and remembers nothing.

    Every step recomputes the sequence: T columns of work for one token. It is the way
    to try a research model at once; give it a cache when speed matters.

    Args:
      function: `(params, tokens [B, T]) -> logits [B, T, V]`, causal. One that
        does something else is another program.
      params: its first argument, any pytree of arrays.
      vocab_size: number of token ids, V.
      max_length: longest sequence it can handle.

    Returns:
      A pytree with the `Model` protocol.
    """
    return RecomputingModel(
        params=params,
        function=Alike(function),
        vocab_size=vocab_size,
        max_length=max_length,
    )


def check_sizes(node: Any) -> None:
    """Check an adapter's vocab_size and max_length, and store them as ints."""
    for name in ("vocab_size", "max_length"):
        value = check.whole(type(node).__name__, name, getattr(node, name), low=1)
        assign(node, name, int(value))


def with_rows(who: str, cache: T, rows: int) -> T:
    """Return a cache or state, checked to have the row axis first in every leaf."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(cache):
        if jnp.shape(leaf)[:1] != (rows,):
            raise ModelError(
                f"{who}: every leaf must have the row axis first ({rows} rows), got "
                f"shape {jnp.shape(leaf)} at cache{jax.tree_util.keystr(path)}; "
                "jaxdecode.from_single takes a function of one row with any layout."
            )
    return cache


def as_logits(who: str, logits: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return a function's logits as float32, checked to have the shape they must."""
    if logits.shape != shape:
        raise ModelError(
            f"{who}: logits must have shape {shape} (rows, columns if any, vocabulary), "
            f"got {logits.shape}."
        )
    return logits.astype(jnp.float32)
