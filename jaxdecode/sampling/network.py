"""A sorting network: a small program that sorts a long row where XLA's sort is large.

Every stage compares each entry with the one whose index differs in one bit and keeps the
smaller or the larger of them; log2(n) (log2(n) + 1) / 2 stages sort n entries. A stage is
elementwise work on the whole row, so the program is two loops, whatever n is. Bits of the
lower half of an index are exchanged in the transposed row, where they are bits of the
upper half: only whole lines are ever moved.

Reference: Batcher, Sorting Networks and Their Applications, 1968.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LANES = 128


def network_sort(words: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return uint32 words [n] in ascending order, and where each stood, int32 [n].

    Equal words keep their order.
    """
    size = words.shape[0]
    lanes = min(LANES, 1 << max(size - 1, 0).bit_length())
    lines = -(-size // lanes)
    lines = 1 << max(lines - 1, 0).bit_length()
    total = lines * lanes
    words = jnp.pad(words, (0, total - size), constant_values=np.uint32(0xFFFFFFFF))
    # What fills up has the largest words and the last places, so it stays behind.
    pair = jnp.stack([words, jnp.arange(total, dtype=jnp.uint32)])
    low, bits = lanes.bit_length() - 1, total.bit_length() - 1
    index = jnp.arange(total, dtype=jnp.int32).reshape(lines, lanes)

    def merge(level, pair):
        """Make sorted runs of 2^(level + 1) entries from pairs of runs."""
        falls = (index >> (level + 1)) & 1 == 1
        pair = _exchange_lines(pair, level - low, falls)
        turned = jnp.swapaxes(pair, 1, 2)
        turned = _exchange_lines(turned, jnp.minimum(level, low - 1), falls.T)
        return jnp.swapaxes(turned, 1, 2)

    pair = lax.fori_loop(0, bits, merge, pair.reshape(2, lines, lanes))
    words, places = pair.reshape(2, total)[:, :size]
    return words, places.astype(jnp.int32)


def _exchange_lines(pair: jax.Array, first: jax.Array, falls: jax.Array) -> jax.Array:
    """Compare and exchange lines whose numbers differ in bit `first`, ..., 1, 0.

    Args:
      pair: uint32 [2, lines, lanes], words and places, which decide between equal words.
      first: int32 (); negative for nothing.
      falls: bool [lines, lanes], whether the larger one comes first.
    """
    number = jnp.arange(pair.shape[1], dtype=jnp.int32)[:, None]

    def exchange(stage, pair):
        distance = jnp.int32(1) << (first - stage)
        is_later = (number & distance) != 0
        before, after = jnp.roll(pair, distance, 1), jnp.roll(pair, -distance, 1)
        other = jnp.where(is_later[None], before, after)
        less = (pair[0] < other[0]) | ((pair[0] == other[0]) & (pair[1] < other[1]))
        stays = less ^ is_later ^ falls
        return jnp.where(stays[None], pair, other)

    return lax.fori_loop(0, first + 1, exchange, pair)
