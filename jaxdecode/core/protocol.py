"""What a language model must offer to be decoded, and what it may offer beyond that.

`Model` is required. The other protocols are optional abilities: code that can use one
asks `isinstance(model, ...)` and has another way for models without it.
"""

from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform

M = TypeVar("M")


class ModelError(ValueError):
    """A model that does not keep the `Model` protocol."""


def logits_of(
    model: "Model",
    tokens: jax.Array,
    positions: jax.Array,
    cache: Any,
    *,
    at: jax.Array | None = None,
) -> tuple[jax.Array, Any]:
    """Call a model and return its logits as float32, and the new cache."""
    logits, cache = model(tokens, positions, cache, at=at)
    return logits.astype(jnp.float32), cache


@runtime_checkable
class Model(Protocol):
    """A causal language model, as decoding uses it.

    The arrays of a model that is a pytree (an nnx or equinox module, a result of
    `from_function` or `from_linen`) are arguments of the compiled program. Any other
    object is a constant of it and must not change afterwards.

    Attributes:
      vocab_size: number of token ids, V.
      max_length: positions it can hold, prompt included.
    """

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        ...

    @property
    def max_length(self) -> int:
        """Positions it can hold, prompt included."""
        ...

    def init_cache(self, rows: int, length: int) -> Any:
        """Return an empty cache: a pytree whose every leaf has the row axis first.

        Args:
          rows: number of sequences, B.
          length: columns to hold, at most `max_length`; column i is for position i.
        """
        ...

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Any,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Run the model on tokens; return logits and the cache that holds the tokens.

        A token attends to the cache's columns up to its own position, so padding beyond
        a row's length is overwritten before any token attends to it. A long prompt is
        passed in several calls, and some of its columns may be passed twice.

        Args:
          tokens: int32 [B, S].
          positions: int32 [B, S], consecutive within a row.
          cache: what `init_cache` or an earlier call returned.
          at: int32 [B], the only column of each row whose logits are needed; None: all.

        Returns:
          Logits [B, S, V], or [B, V] with `at`, float32 (another floating-point type
          is converted); and the new cache, its leaves as before.
        """
        ...


@runtime_checkable
class ReadsPrompts(Protocol):
    """Optional: a model that reads whole prompts itself.

    For a model that must know where a prompt ends. Any other model is called several
    times for a long prompt and cannot tell which call is the last.
    """

    def read_prompts(
        self, prompts: Any, cache: Any, *, reversible: bool
    ) -> tuple[jax.Array, Any]:
        """Read whole prompts; `decode.prefill` then calls this method only.

        Args:
          prompts: a value with `tokens`, int32 [B, P], and `lengths`, int32 [B].
          cache: an empty cache of this model.
          reversible: whether the result must be differentiable in reverse. Static.

        Returns:
          float32 logits [B, V] after each prompt's last token, and the new cache.
        """
        ...


@runtime_checkable
class SharesPrompts(Protocol):
    """Optional: a model that stores a prompt once for all beams that continue it.

    Attributes:
      shares_prompts: whether this model can; a wrapper may have the method whatever
        model it holds.
    """

    @property
    def shares_prompts(self) -> bool:
        """Whether this model can."""
        ...

    def share_prompts(
        self, cache: Any, lengths: jax.Array, *, beams: int, columns: int
    ) -> Any:
        """Return a cache for `beams` continuations of each prompt.

        Args:
          cache: the cache after the prompts were read, rows [B].
          lengths: int32 [B], the prompts' lengths.
          beams: continuations per prompt, N. Static.
          columns: tokens that will be read after the prompt. Static.

        Returns:
          A value of B * N rows, the beams, that the model takes in place of a cache,
          with tokens [B * N, 1]. Before each step `core.rows.take_rows` lets every beam
          continue the tokens of a beam of its prompt; fields declared `shared()` are
          left as they are.
        """
        ...


@runtime_checkable
class ExposesLayers(Protocol):
    """Optional: a model that can apply its head to the output of earlier blocks.

    A wrapper that has the method whatever model it holds must also have a property
    `exposes_layers`: whether the model inside can.
    """

    def layer_logits(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Any,
        *,
        layers: tuple[int, ...],
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array, Any]:
        """Run the model as a call does, and return earlier layers' logits as well.

        Args:
          tokens: as in a call.
          positions: as in a call.
          cache: as in a call.
          layers: after how many blocks each; 0 is the embedding. Static.
          at: as in a call.

        Returns:
          float32 logits [B, S, V], or [B, V] with `at`; the logits of the earlier
          layers, [len(layers), ...]; and the new cache.
        """
        ...


@runtime_checkable
class IgnoresUnusedColumns(Protocol):
    """Optional: a model to which the unused columns of a cache are nothing.

    Attributes:
      ignores_unused_columns: whether they take no time and change no bit, so that one
        program may serve rows that need fewer columns than it has.
    """

    @property
    def ignores_unused_columns(self) -> bool:
        """Whether unused columns take no time and change no bit."""
        ...


@runtime_checkable
class FollowsPlatform(Protocol):
    """Optional: a model whose storage depends on what a program is compiled for."""

    def on(self, platform: Platform) -> Any:
        """Return the same model, to be used in programs for `platform`."""
        ...


def for_platform(model: M, platform: Platform) -> M:
    """Return a model, or a wrapper of models, as it is used in programs for `platform`.

    Args:
      model: any model; parts that do not follow a platform stay as they are.
      platform: what the program is compiled for. Static.
    """

    def place(part):
        return part.on(platform) if isinstance(part, FollowsPlatform) else part

    return jax.tree.map(
        place, model, is_leaf=lambda part: isinstance(part, FollowsPlatform)
    )


def follows_platform(model: Any) -> bool:
    """Whether a model, or one inside a wrapper, follows a platform."""
    parts = jax.tree.leaves(
        model, is_leaf=lambda part: isinstance(part, FollowsPlatform)
    )
    return any(isinstance(part, FollowsPlatform) for part in parts)
