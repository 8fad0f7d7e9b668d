"""Flax linen modules as models: without a cache, with one passed in, or a collection."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core import varying
from jaxdecode.core.functions import Alike
from jaxdecode.models.adapters import (
    FunctionModel,
    RecomputingModel,
    from_function,
    from_logits_function,
)
from jaxdecode.models.single import SingleModel


def from_linen(
    module: Any,
    variables: Any,
    *,
    vocab_size: int,
    max_length: int,
    init_cache: Callable[[int, int], Any] | None = None,
    method: str | None = None,
    cache: str | None = None,
    call: Callable[..., Any] | None = None,
    token_by_token: bool = False,
) -> FunctionModel | RecomputingModel | SingleModel:
    """Wrap a Flax linen module and its variables, in one of three ways.

    Without a cache the module is applied to `tokens` [B, T], returns logits [B, T, V],
    and every step recomputes the sequence (see `from_logits_function`).

    With `init_cache` it is applied to `(tokens, positions, cache)` and returns
    `(logits, cache)` (see `from_function`).

    With `cache`, the name of a mutable collection such as "cache", every row has a
    collection of its own, made by the module's `init` on [1, length] tokens, and the
    module is applied to tokens [1, S]. Before each call every integer of the collection
    that is a scalar, or whose name contains "index", is set to the position of the first
    of them: that is where a module puts what comes next.

    The module must not need random numbers or change other variables.

    Args:
      module: the linen module; its attributes must be hashable.
      variables: what `module.init` returned, or trained variables.
      vocab_size: number of token ids, V.
      max_length: positions it can handle.
      init_cache: `(rows, length) -> cache`, row axis first; None for no cache.
      method: name of the method to apply; None is `__call__`.
      cache: name of the collection that the module keeps its cache in; None for none.
      call: with `cache`, `(apply, tokens [1, S], positions [1, S]) -> logits [1, S, V]`,
        where `apply` runs the module on what it is given; None is `apply(tokens)`.
      token_by_token: with `cache`, whether the module takes one token a call, as
        `nn.MultiHeadDotProductAttention(decode=True)` does; a prompt is then a loop.

    Returns:
      A pytree with the `Model` protocol.

    Raises:
      ValueError: for both `cache` and `init_cache`, or `call` without `cache`.
    """
    sizes = {"vocab_size": vocab_size, "max_length": max_length}
    if cache is None:
        if call is not None or token_by_token:
            raise ValueError(
                "from_linen: `call` and `token_by_token` must come with `cache`, the "
                "name of a collection, got None."
            )
        apply = LinenApply(module, method)
        if init_cache is None:
            return from_logits_function(apply, variables, **sizes)
        return from_function(apply, variables, init_cache=init_cache, **sizes)
    if init_cache is not None:
        raise ValueError(
            "from_linen: `init_cache` must be None with `cache`, whose collection the "
            "module makes itself."
        )
    step = LinenStep(module, method, cache, Alike(call or _on_tokens), token_by_token)
    return SingleModel(
        params=variables, function=step, make_cache=LinenCache(step), **sizes
    )


@dataclasses.dataclass(frozen=True)
class LinenApply:
    """`module.apply` as a value: equal modules make equal functions.

    Args:
      module: the linen module.
      method: name of the method to apply; None is `__call__`.
    """

    module: Any
    method: str | None

    def __call__(self, variables: Any, *args: Any) -> Any:
        return self.module.apply(variables, *args, method=self.method)


@dataclasses.dataclass(frozen=True)
class LinenStep:
    """A module that keeps its cache in a collection, as a function of one row.

    Args:
      module: the linen module.
      method: name of the method to apply; None is `__call__`.
      collection: name of the collection.
      call: `(apply, tokens, positions) -> logits`.
      token_by_token: whether the module takes one token a call.
    """

    module: Any
    method: str | None
    collection: str
    call: Callable[..., Any]
    token_by_token: bool

    def __call__(
        self, variables: Any, tokens: jax.Array, positions: jax.Array, cache: Any
    ) -> tuple[jax.Array, Any]:
        """Read tokens [1, S]; return logits [1, S, V] and the new collection."""
        if not self.token_by_token:
            return self._read(variables, tokens, positions, cache)

        def step(cache, column):
            token, position = (part[None, None] for part in column)
            logits, cache = self._read(variables, token, position, cache)
            return cache, logits[:, 0]

        columns = (tokens[0], positions[0])
        cache, logits = varying.scan(step, cache, columns, given=variables)
        return jnp.swapaxes(logits, 0, 1), cache

    def _read(self, variables, tokens, positions, cache):
        given = {**variables, self.collection: _placed(cache, positions[0, 0])}
        changed = {}

        def apply(*args, **kwargs):
            result, new = self.module.apply(
                given, *args, mutable=[self.collection], method=self.method, **kwargs
            )
            changed.update(new)
            return result

        logits = self.call(apply, tokens, positions)
        same = jax.tree.structure(cache)
        return logits, jax.tree.unflatten(
            same, jax.tree.leaves(changed[self.collection])
        )


@dataclasses.dataclass(frozen=True)
class LinenCache:
    """`(variables, length) -> collection` of one row, as the module's `init` makes it.

    Args:
      step: the module and how it is called.
    """

    step: LinenStep

    def __call__(self, variables: Any, length: int) -> Any:
        """Return an empty collection for `length` tokens."""
        del variables  # those of `init` are not used, so that none is computed
        made = {}

        def apply(*args, **kwargs):
            result, new = self.step.module.init_with_output(
                jax.random.key(0), *args, method=self.step.method, **kwargs
            )
            made.update(new)
            return result

        tokens = jnp.zeros((1, length), jnp.int32)
        positions = jnp.arange(length, dtype=jnp.int32)[None]
        self.step.call(apply, tokens, positions)
        if self.step.collection not in made:
            raise ValueError(
                f"from_linen: `cache` must name a collection that the module makes, "
                f"{sorted(made)}, got {self.step.collection!r}."
            )
        return made[self.step.collection]


def _on_tokens(apply: Callable[..., Any], tokens: jax.Array, positions: jax.Array):
    del positions
    return apply(tokens)


def _placed(cache: Any, position: jax.Array) -> Any:
    """Return a collection whose integers that say where the next token goes say this."""

    def place(path, leaf):
        name = str(getattr(path[-1], "key", "")) if path else ""
        is_place = jnp.issubdtype(leaf.dtype, jnp.integer)
        is_place &= leaf.ndim == 0 or "index" in name
        return jnp.full_like(leaf, position) if is_place else leaf

    return jax.tree_util.tree_map_with_path(place, cache)
