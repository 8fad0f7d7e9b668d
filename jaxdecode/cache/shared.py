"""Keys and values of beams that share a prompt: the prompt once, then what each added.

What beams add is never moved. Step j of a prompt's K beams fills columns j * K to
j * K + K - 1, one for each, and a small table says which of them lie on a beam's own
path. A beam that continues another parent takes that parent's line of the table, and
nothing else: `core.rows.take_rows(cache, parents)`. The step follows from a token's
position, so reading a token again changes nothing, and shorter rows undo their steps.
"""

import jax
import jax.numpy as jnp

from jaxdecode.cache.kv import KVCache, as_numbers, stored_as
from jaxdecode.cache.stacked import StackedCache
from jaxdecode.core.pytree import pytree, replace, shared


@pytree
class SharedCache:
    """What attention remembers of K continuations of each of B prompts.

    Its rows are the B * K beams. Beams of one prompt have the same length.

    Args:
      prompts: the prompts' columns, rows [B].
      keys: per layer [B, H, T * K, D] for H key and value heads; float32,
        bfloat16 or uint16.
      values: per layer, the same.
      lengths: int32 [B], the prompts' lengths.
      path: int32 [B * K, T], at each step the beam that a beam's path went through.
    """

    prompts: KVCache = shared()
    keys: tuple[jax.Array, ...] = shared()
    values: tuple[jax.Array, ...] = shared()
    lengths: jax.Array = shared()
    path: jax.Array

    @staticmethod
    def of(
        prompts: KVCache | StackedCache,
        lengths: jax.Array,
        *,
        beams: int,
        columns: int,
    ) -> "SharedCache":
        """Return a cache whose beams all stand at the end of their prompt.

        Args:
          prompts: what reading the prompts left.
          lengths: int32 [B].
          beams: continuations per prompt, K.
          columns: how many tokens each may add, T.
        """
        if isinstance(prompts, StackedCache):
            prompts = prompts.by_layer()
        rows, heads, _, size = prompts.keys[0].shape
        shape = (rows, heads, columns * beams, size)
        # Zeros, not `empty`: an unused column has weight 0, and 0 * NaN is NaN.
        return SharedCache(
            prompts=prompts,
            keys=tuple(jnp.zeros(shape, leaf.dtype) for leaf in prompts.keys),
            values=tuple(jnp.zeros(shape, leaf.dtype) for leaf in prompts.values),
            lengths=lengths,
            path=jnp.zeros((rows * beams, columns), jnp.int32),
        )

    @property
    def beams(self) -> int:
        """Continuations per prompt, K."""
        return self.path.shape[0] // self.lengths.shape[0]

    @property
    def size(self) -> int:
        """Numbers of a head, D."""
        return self.keys[0].shape[3]

    def steps(self, positions: jax.Array) -> jax.Array:
        """Return which step each prompt's beams take at positions [B * K], int32 [B].

        It is negative for a token of the prompt.
        """
        return positions.reshape(-1, self.beams)[:, 0] - self.lengths

    def open(self, positions: jax.Array) -> "SharedCache":
        """Let every path go through its own beam at positions int32 [B * K]."""
        rows = jnp.arange(self.path.shape[0], dtype=jnp.int32)
        steps = jnp.repeat(self._writable(positions), self.beams)
        path = self.path.at[rows, steps].set(rows % self.beams, mode="drop")
        return replace(self, path=path)

    def write(
        self, layer: int, keys: jax.Array, values: jax.Array, starts: jax.Array
    ) -> "SharedCache":
        """Put every beam's newest token into one layer.

        Args:
          layer: which layer.
          keys: [B * K, H, 1, D], rounded to the storage type.
          values: [B * K, H, 1, D].
          starts: int32 [B * K], the position of each token.
        """
        steps = self._writable(starts)
        return replace(
            self,
            keys=self._put(self.keys, layer, keys, steps),
            values=self._put(self.values, layer, values, steps),
        )

    def read(self, layer: int) -> tuple[jax.Array, jax.Array]:
        """Return what the beams added to a layer, [B, H, T * K, D], as numbers."""
        return as_numbers(self.keys[layer]), as_numbers(self.values[layer])

    def on_path(self, positions: jax.Array) -> jax.Array:
        """Which columns lie on each beam's path up to its position, bool [B, K, T * K].

        Args:
          positions: int32 [B * K].
        """
        beam = jnp.arange(self.beams, dtype=jnp.int32)
        path = self.path.reshape(-1, self.beams, self.path.shape[1])
        taken = jnp.arange(path.shape[2], dtype=jnp.int32)[None, :]
        taken = taken <= self.steps(positions)[:, None]  # [B, T]
        on = (path[..., None] == beam[None, None, None]) & taken[:, None, :, None]
        return on.reshape(*path.shape[:2], -1)

    def _writable(self, positions: jax.Array) -> jax.Array:
        """Return the steps, T where there is nothing to write: past the end, so dropped.

        A negative index would count from the end.
        """
        steps = self.steps(positions)
        return jnp.where(steps < 0, self.path.shape[1], steps)

    def _put(self, stored: tuple, layer: int, new: jax.Array, steps: jax.Array):
        buffer = stored[layer]
        new = stored_as(buffer, new)
        rows, heads, _, size = buffer.shape
        new = jnp.swapaxes(new.reshape(rows, self.beams, heads, size), 1, 2)
        row = jnp.arange(rows)[:, None, None]
        head = jnp.arange(heads)[None, :, None]
        beam = jnp.arange(self.beams, dtype=jnp.int32)[None, None]
        column = steps[:, None, None] * self.beams + beam
        buffer = buffer.at[row, head, column].set(
            new, mode="drop", unique_indices=True, indices_are_sorted=True
        )
        return (*stored[:layer], buffer, *stored[layer + 1 :])
