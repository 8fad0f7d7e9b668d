"""Keys and values of all layers in one array each, for loops over layers.

What a loop carries cannot be a tuple with an entry per layer. In one array a layer is a
number that may be traced; only kernels read a layer from there without copying it.
"""

import jax

from jaxdecode.cache.kv import (
    KVCache,
    as_numbers,
    check_columns,
    write_columns,
    zeros,
)
from jaxdecode.core.pytree import pytree


@pytree
class StackedCache:
    """What attention remembers, as `KVCache`, with the layers along an axis.

    Args:
      keys: [B, L, K, T, D], float32 or uint16.
      values: the same.
    """

    keys: jax.Array
    values: jax.Array

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
    ) -> "StackedCache":
        """Return a cache of zeros; the arguments are those of `KVCache.empty`."""
        shape = (rows, layers, heads, length, size)
        keys, values = zeros(shape, dtype, words), zeros(shape, dtype, words)
        return StackedCache(keys=keys, values=values)

    @property
    def length(self) -> int:
        """Number of columns, T."""
        return self.keys.shape[3]

    @property
    def size(self) -> int:
        """Numbers of a head, D."""
        return self.keys.shape[4]

    def write(
        self, layer: int | jax.Array, keys: jax.Array, values: jax.Array, starts
    ) -> "StackedCache":
        """Put new columns into one layer, as `KVCache.write` does.

        Args:
          layer: which layer, an int or int32 ().
          keys: [B, K, S, D], rounded to the storage type.
          values: [B, K, S, D].
          starts: int32 [B], the column of each row's first new one.
        """
        check_columns(keys, self.length)
        return StackedCache(
            keys=write_columns(self.keys, keys, starts, layer),
            values=write_columns(self.values, values, starts, layer),
        )

    def read(self, layer: int | jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return a copy of a layer's keys and values [B, K, T, D] as numbers."""
        return as_numbers(self.keys[:, layer]), as_numbers(self.values[:, layer])

    def by_layer(self) -> KVCache:
        """Return the same with an array for each layer, copied."""
        layers = range(self.keys.shape[1])
        return KVCache(
            keys=tuple(self.keys[:, layer] for layer in layers),
            values=tuple(self.values[:, layer] for layer in layers),
        )
