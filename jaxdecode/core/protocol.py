"""What a language model must offer to be decoded, and nothing about any of them."""

from typing import Any, Protocol, runtime_checkable

import jax


@runtime_checkable
class Model(Protocol):
    """A causal language model as decoding sees it.

    A model that is a pytree (an nnx or equinox module, anything made by `from_function`
    or `from_linen`) has its arrays passed into the compiled program; any other object is
    compiled in as a constant and must not change afterwards.

    Attributes:
      vocab_size: number of token ids, V.
      max_length: positions it can hold, prompt included.
    """

    vocab_size: int
    max_length: int

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
        """Read tokens at their positions; return logits and the cache that holds them.

        A token attends to the cache's columns up to its own position, so what a row
        holds beyond its length (padding) is overwritten before it could be seen. A long
        prompt comes in several calls, and some of its columns may come twice.

        Args:
          tokens: int32 [B, S].
          positions: int32 [B, S], consecutive within a row.
          cache: what `init_cache` or an earlier call returned.
          at: int32 [B], the one column of each row whose logits are wanted.

        Returns:
          float32 logits [B, S, V], or [B, V] with `at`; and the new cache.
        """
        ...
