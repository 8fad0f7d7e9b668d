"""What a device needs of an automaton over tokens: arrays of a few sizes.

Another pattern whose arrays round up to the same sizes is the same program.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.pytree import pytree, replace, static
from jaxdecode.core.rows import Indexed
from jaxdecode.core.shapes import NO_ID, Array, bucket
from jaxdecode.transforms.patterns.budgets import Budgets
from jaxdecode.transforms.patterns.lifting import DEAD, TokenAutomaton

FIRST, LEAST, SPAN, ACCEPTS = range(4)  # the columns of `states`
BITS = 32
AT_ONCE = 2**24  # booleans


@pytree
class Tables(Indexed):
    """The masks and transitions of one pattern over one vocabulary.

    Attributes:
      masks: uint32 [D, W], sets of tokens; bit b of word w is token b * W + w, so that
        neighbouring tokens are in neighbouring words. Mask 0 is empty.
      chosen: int32 [E], numbers of masks.
      states: int32 [S, 4]: where in `chosen` the masks of a state begin, the fewest
        tokens to an end, how many masks follow the first, whether a text may end here.
      follows: uint32 [S, C / 2], states by class of token, two in a word.
      classes: uint32 [V / 2], the class of each token, two in a word.
      text: uint32 [W], the tokens that add something to a text, as in `masks`.
      eos_ids: int32 [E], ids that end a text where no request says which do.
      finish: int32, whether a text has to end within its budget.
      free: int32, whether everything fits, and nothing here is looked at.
      size: how many tokens the vocabulary has. Static.
      entry: which of several tables a row uses; None outside a bank.
    """

    masks: Array
    chosen: Array
    states: Array
    follows: Array
    classes: Array
    text: Array
    eos_ids: Array
    finish: Array
    free: Array
    size: int = static()
    entry: Any = None

    def at(self, name: str, *place: Any) -> jax.Array:
        """Return an entry of one of the arrays, for one row."""
        place = place if self.entry is None else (self.entry, *place)
        return jnp.asarray(getattr(self, name))[place]

    def after(self, state: Any, token: Any) -> jax.Array:
        """Return the state after a token, int32."""
        inside = jnp.clip(token, 0, self.size - 1)
        kind = _half(self.at("classes", inside >> 1), inside)
        following = _half(self.at("follows", state, kind >> 1), kind)
        return jnp.where(token == inside, following, DEAD)

    def fitting(self, state: Any, left: Any, ends: Any) -> jax.Array:
        """Return the tokens that fit, as words of a mask, uint32 [W].

        Args:
          state: where the text stands, int32.
          left: how many tokens may still come, int32.
          ends: int32 [E], ids that end the text, padded.
        """
        first, least, span, accepts = self.at("states", state)
        number = self.at("chosen", first + jnp.clip(left - least, 0, span))
        words = self.at("masks", jnp.where(left >= least, number, 0))
        ending = self._words(ends)
        return (words & ~ending) | jnp.where(accepts > 0, ending, np.uint32(0))

    def members(self, words: jax.Array, vocab_size: int) -> jax.Array:
        """Return which tokens are in a mask, bool [V]."""
        bits = jnp.arange(BITS, dtype=jnp.uint32)
        inside = (words[None, :] >> bits[:, None]) & np.uint32(1)
        inside = inside.reshape(-1)[:vocab_size] > 0
        return jnp.pad(inside, (0, vocab_size - inside.shape[0]))

    def _words(self, ids: Any) -> jax.Array:
        """Return a few ids as words of a mask; those beyond the tokens are left out."""
        width = self.masks.shape[-1]
        bit = jnp.left_shift(np.uint32(1), (ids // width % BITS).astype(jnp.uint32))
        bit = jnp.where(ids < self.size, bit, np.uint32(0))
        here = jnp.arange(width, dtype=jnp.int32)[None, :] == (ids % width)[:, None]
        found = jnp.where(here, bit[:, None], np.uint32(0))
        return jnp.bitwise_or.reduce(found, axis=0)


def _half(word: Any, index: Any) -> jax.Array:
    """Return the half of a word in which entry `index` of a row of pairs lies, int32."""
    shift = (16 * (index & 1)).astype(jnp.uint32)
    return ((word >> shift) & np.uint32(0xFFFF)).astype(jnp.int32)


def tables_of(
    automaton: TokenAutomaton,
    budgets: Budgets,
    is_text: np.ndarray,
    *,
    eos_ids: np.ndarray,
    finish: bool,
) -> Tables:
    """Return the tables of an automaton with its masks, in their own sizes.

    Args:
      automaton: over the tokens.
      budgets: its masks.
      is_text: bool [V], which tokens add something to a text.
      eos_ids: int32, padded with `NO_ID`.
      finish: whether a text has to end within its budget.
    """
    size = len(is_text)
    states = np.stack(
        [budgets.first, automaton.least, budgets.span, automaton.accepts], axis=1
    )
    states[0, LEAST] = 0
    return Tables(
        masks=_packed_masks(budgets.masks, automaton.classes),
        chosen=budgets.chosen,
        states=states.astype(np.int32),
        follows=_paired(automaton.follows.T),
        classes=_paired(automaton.classes[None])[0],
        text=_packed_masks(np.asarray([[False, True]]), is_text.astype(np.int32))[0],
        eos_ids=eos_ids,
        finish=np.asarray(finish, np.int32),
        free=np.asarray(False, np.int32),
        size=size,
    )


def free_tables(like: Tables) -> Tables:
    """Return the tables of a row that may write anything, shaped like others."""
    empty = jax.tree.map(np.zeros_like, like)
    eos_ids = np.full_like(like.eos_ids, NO_ID)
    return replace(
        empty, free=np.asarray(True, np.int32), text=like.text, eos_ids=eos_ids
    )


def resized(many: list[Tables]) -> list[Tables]:
    """Return tables of one vocabulary, all padded to the same sizes."""
    names = ("masks", "chosen", "states", "follows", "eos_ids")
    shapes = {n: np.max([np.shape(getattr(t, n)) for t in many], axis=0) for n in names}
    # Words of a mask are those of the vocabulary; numbers of other things round up.
    wanted = {
        "masks": (rounded(shapes["masks"][0], low=16), shapes["masks"][1]),
        "chosen": (rounded(shapes["chosen"][0], low=1024),),
        "states": (states := rounded(shapes["states"][0], low=128), 4),
        "follows": (states, rounded(shapes["follows"][1], low=32)),
        "eos_ids": (bucket(int(shapes["eos_ids"][0]), low=8),),
    }

    def pad(tables):
        changes = {}
        for name, shape in wanted.items():
            old = np.asarray(getattr(tables, name))
            filler = NO_ID if name == "eos_ids" else 0
            room = [(0, int(new) - n) for new, n in zip(shape, old.shape, strict=True)]
            changes[name] = np.pad(old, room, constant_values=filler)
        return replace(tables, **changes)

    return [pad(tables) for tables in many]


def rounded(size: int, *, low: int) -> int:
    """Round up to a power of two, from 128 on to a quarter of the way to the next."""
    size = max(int(size), low)
    power = 1 << (size - 1).bit_length()
    step = power if power <= 128 else power // 8
    return -(-size // step) * step


def _packed_masks(masks: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return sets of classes as sets of tokens, uint32 [D, W]."""
    words = -(-len(classes) // BITS)
    padded = np.full(words * BITS, masks.shape[1], np.int64)  # beyond the last class
    padded[: len(classes)] = classes
    order = padded.reshape(BITS, words).T.reshape(-1)  # bits of a word side by side
    room = np.pad(masks, ((0, 0), (0, 1)))
    packed = np.empty((len(masks), words), np.uint32)
    size = max(1, AT_ONCE // (words * BITS))
    for start in range(0, len(masks), size):
        part = np.take(room[start : start + size], order, axis=1)
        octets = np.packbits(part, axis=1, bitorder="little")
        packed[start : start + size] = octets.view("<u4")
    return packed


def _paired(numbers: np.ndarray) -> np.ndarray:
    """Return numbers below 2**16 by pairs in a word, uint32 [N, ceil(M / 2)]."""
    even = np.pad(numbers, ((0, 0), (0, numbers.shape[1] % 2))).astype(np.uint32)
    return np.ascontiguousarray(even[:, ::2] | (even[:, 1::2] << np.uint32(16)))
