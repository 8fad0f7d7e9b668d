"""Keys and values of beams that share a prompt: the prompt once, then what each added.

What beams add is never moved. Step j of a prompt's K beams fills columns j * K to
j * K + K - 1, one for each, and a small table says which of them lie on a beam's own
path. A beam that turns to another parent changes its line of that table.
"""

import jax
import jax.numpy as jnp

from jaxdecode.cache.bits import to_bits
from jaxdecode.cache.kv import KVCache, as_numbers
from jaxdecode.core.pytree import pytree, replace


@pytree
class SharedCache:
    """What attention remembers of K continuations of each of B prompts.

    Args:
      prompts: the prompts' columns, rows [B].
      keys: per layer [B, H, T * K, D] for H key and value heads, float32 or uint16.
      values: per layer, the same.
      lengths: int32 [B], the prompts' lengths.
      path: int32 [B, K, T], at each step the beam that beam k's path went through; -1
        at steps to come.
      count: int32, how many steps the paths have.
    """

    prompts: KVCache
    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    lengths: jax.Array
    path: jax.Array
    count: jax.Array

    @staticmethod
    def of(
        prompts: KVCache, lengths: jax.Array, *, beams: int, columns: int
    ) -> "SharedCache":
        """Return a cache whose beams all stand at the end of their prompt.

        Args:
          prompts: what reading the prompts left.
          lengths: int32 [B].
          beams: continuations per prompt, K.
          columns: how many tokens each may add, T.
        """
        rows, heads, _, size = prompts.keys[0].shape
        shape = (rows, heads, columns * beams, size)
        # Zeros, not `empty`: an unused column has weight 0, and 0 * NaN is NaN.
        return SharedCache(
            prompts=prompts,
            keys=tuple(jnp.zeros(shape, leaf.dtype) for leaf in prompts.keys),
            values=tuple(jnp.zeros(shape, leaf.dtype) for leaf in prompts.values),
            lengths=lengths,
            path=jnp.full((rows, beams, columns), -1, jnp.int32),
            count=jnp.int32(0),
        )

    @property
    def beams(self) -> int:
        """Continuations per prompt, K."""
        return self.path.shape[1]

    def follow(self, parents: jax.Array) -> "SharedCache":
        """Let beam k go on from beam `parents[b, k]`, and open the next step's columns.

        Args:
          parents: int32 [B, K].
        """
        path = jax.vmap(lambda row, index: row[index])(self.path, parents)
        own = jnp.broadcast_to(jnp.arange(self.beams, dtype=jnp.int32), parents.shape)
        path = path.at[:, :, self.count].set(own, mode="drop")
        return replace(self, path=path, count=self.count + 1)

    def write(
        self, layer: int, keys: jax.Array, values: jax.Array, starts: jax.Array
    ) -> "SharedCache":
        """Put every beam's newest token into one layer, at the step opened last.

        Args:
          layer: which layer.
          keys: [B * K, H, 1, D], rounded to the storage type.
          values: [B * K, H, 1, D].
          starts: not read: the path knows the step.
        """
        del starts
        return replace(
            self,
            keys=self._put(self.keys, layer, keys),
            values=self._put(self.values, layer, values),
        )

    def read(self, layer: int) -> tuple[jax.Array, jax.Array]:
        """Return what the beams added to a layer, [B, H, T * K, D], as numbers."""
        return as_numbers(self.keys[layer]), as_numbers(self.values[layer])

    def on_path(self) -> jax.Array:
        """Say which columns lie on each beam's path, bool [B, K, T * K]."""
        beam = jnp.arange(self.beams, dtype=jnp.int32)
        on = self.path[..., None] == beam[None, None, None]
        return on.reshape(*self.path.shape[:2], -1)

    def _put(self, stored: tuple, layer: int, new: jax.Array) -> tuple:
        buffer = stored[layer]
        if buffer.dtype == jnp.uint16:
            new = to_bits(new.astype(jnp.bfloat16))
        rows, heads, _, size = buffer.shape
        new = jnp.swapaxes(new.reshape(rows, self.beams, heads, size), 1, 2)
        row = jnp.arange(rows)[:, None, None]
        head = jnp.arange(heads)[None, :, None]
        column = (self.count - 1) * self.beams + jnp.arange(self.beams, dtype=jnp.int32)
        buffer = buffer.at[row, head, column[None, None]].set(
            new, mode="drop", unique_indices=True, indices_are_sorted=True
        )
        return (*stored[:layer], buffer, *stored[layer + 1 :])
