"""Keys and values of every layer, laid out so that a step moves only what is new.

Column is position: what a row computed at position i lies in column i, and nothing else
about a row is stored, so that rolling back or padding costs nothing. Knows no model:
who attends to which column is the reader's affair.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxdecode.cache.bits import from_bits, to_bits
from jaxdecode.core import check
from jaxdecode.core.platform import lowered_for
from jaxdecode.core.pytree import pytree, replace

STORAGE = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@pytree
class KVCache:
    """What attention remembers: keys and values, one array of each per layer.

    A head's columns lie next to each other, so that the products over them read memory
    in order and never transpose it. A bfloat16 cache may hold its words as uint16 (see
    `jaxdecode.cache.bits`), which keeps the update of a step in place on CPU.

    Args:
      keys: per layer [B, K, T, D], float32, bfloat16 or uint16.
      values: per layer, the same.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]

    @staticmethod
    def empty(
        *,
        layers: int,
        rows: int,
        heads: int,
        length: int,
        size: int,
        dtype: str,
        words: bool = True,
    ) -> "KVCache":
        """Return a cache of zeros.

        Args:
          layers: number of layers, L.
          rows: number of sequences, B.
          heads: key and value heads, K.
          length: columns, T.
          size: size of a head, D.
          dtype: "float32" or "bfloat16".
          words: whether bfloat16 numbers are kept as words.

        Returns:
          A cache whose leaves have shape [B, K, T, D].
        """
        shape = (rows, heads, length, size)
        return KVCache(
            keys=tuple(zeros(shape, dtype, words) for _ in range(layers)),
            values=tuple(zeros(shape, dtype, words) for _ in range(layers)),
        )

    @property
    def length(self) -> int:
        """Number of columns, T."""
        return self.keys[0].shape[2]

    @property
    def size(self) -> int:
        """Numbers of a head, D."""
        return self.keys[0].shape[3]

    def write(
        self, layer: int, keys: jax.Array, values: jax.Array, starts: jax.Array
    ) -> "KVCache":
        """Put new columns into one layer.

        Args:
          layer: which layer.
          keys: [B, K, S, D], rounded to the storage type.
          values: [B, K, S, D].
          starts: int32 [B], the column of each row's first new one; columns that would
            lie past the end are dropped.

        Returns:
          The cache with the columns replaced.

        Raises:
          ValueError: if the new columns are more than the cache has.
        """
        check_columns(keys, self.length)
        new_keys = write_columns(self.keys[layer], keys, starts)
        new_values = write_columns(self.values[layer], values, starts)
        return self.with_layer(layer, new_keys, new_values)

    def with_layer(self, layer: int, keys: jax.Array, values: jax.Array) -> "KVCache":
        """Return the cache with other arrays [B, K, T, D] for one layer."""
        return replace(
            self,
            keys=_set(self.keys, layer, keys),
            values=_set(self.values, layer, values),
        )

    def read(self, layer: int) -> tuple[jax.Array, jax.Array]:
        """Return a layer's keys and values [B, K, T, D] as numbers, not words."""
        return as_numbers(self.keys[layer]), as_numbers(self.values[layer])


def zeros(shape: tuple[int, ...], dtype: str, words: bool) -> jax.Array:
    """Return columns that nobody wrote, "float32" or "bfloat16" (perhaps as words).

    Zeros, not `empty`: an unused column has weight 0, and 0 * NaN is NaN.
    """
    check.choice("KVCache", "dtype", dtype, tuple(STORAGE))
    as_words = words and dtype == "bfloat16"
    return jnp.zeros(shape, jnp.uint16 if as_words else STORAGE[dtype])


def check_columns(new: jax.Array, length: int) -> None:
    """Refuse more new columns [B, K, S, D] than a cache has."""
    if new.shape[2] > length:
        raise ValueError(
            f"KVCache: new columns must be at most the length ({length}), "
            f"got {new.shape[2]}."
        )


def stored_as(stored: jax.Array, new: jax.Array) -> jax.Array:
    """Return numbers in the type in which `stored` keeps them."""
    words = stored.dtype == jnp.uint16
    return to_bits(new.astype(jnp.bfloat16)) if words else new.astype(stored.dtype)


def write_columns(
    stored: jax.Array, new: jax.Array, starts: jax.Array, *layer: int | jax.Array
) -> jax.Array:
    """Put columns [B, K, S, D] into stored ones [B, K, T, D], or one of [B, L, K, T, D].

    Args:
      stored: float32, bfloat16 or uint16.
      new: what is written.
      starts: int32 [B], the column of each row's first new one.
      *layer: which layer, where `stored` has an axis for them.
    """
    new = stored_as(stored, new)
    rows, heads, columns, _ = new.shape
    if columns > 1 and stored.dtype == jnp.bfloat16:
        # Places that are worked out once for all layers a TPU keeps where some layers
        # find them and others do not, so that their code differs: half a megabyte each.
        given = starts, new
        starts, new = lowered_for(("tpu",), lax.optimization_barrier, _itself, given)
    # Row, head and column are all named. Naming the row only is a plain slice update at
    # batch 1, which XLA fuses into its reader and then copies the cache for: 11.8 MB of
    # temporaries instead of 0.4 (SmolLM2-135M, 128 columns, jaxlib 0.10.2, 2026-11).
    row = jnp.arange(rows)[:, None, None]
    head = jnp.arange(heads)[None, :, None]
    column = starts[:, None, None] + jnp.arange(columns, dtype=starts.dtype)[None, None]
    return stored.at[row, *layer, head, column].set(
        new,
        mode="drop",
        unique_indices=True,
        indices_are_sorted=True,
        wrap_negative_indices=False,  # there are none: half of what Python does here
    )


def _itself(values: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return values


def as_numbers(stored: jax.Array) -> jax.Array:
    """Return stored words as numbers."""
    return from_bits(stored) if stored.dtype == jnp.uint16 else stored


def _set(items: tuple, index: int, value: jax.Array) -> tuple:
    return (*items[:index], value, *items[index + 1 :])
