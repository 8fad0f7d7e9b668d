"""Sequences of token ids: checked, padded to a table, and matched against a text.

Sequences stand at the right of the table's rows, so that the last ids are one column.
The table has one of a few sizes: other sequences of about the same number and length
are the same program. Everything here is for one row of a batch.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import NO_ID, Array, bucket


@pytree
class SequenceTable:
    """Sequences of token ids, padded.

    Attributes:
      ids: int32 [N, L], right-aligned, padded on the left and below with `NO_ID`.
    """

    ids: Array

    @staticmethod
    def of(who: str, name: str, sequences: Any, *, longest: int = 1) -> "SequenceTable":
        """Return the table of some sequences, after checking them.

        Args:
          who: the class or function, for the message.
          name: the argument, for the message.
          sequences: lists of token ids; no list at all is the empty table.
          longest: the least length for which the table has room.

        Raises:
          TypeError: if they are not lists of integers.
          ValueError: for an empty sequence or a negative id.
        """
        rows = checked_sequences(who, name, sequences)
        width = bucket(max([longest, *map(len, rows)]), low=4)
        table = np.full((bucket(len(rows), low=8), width), NO_ID, np.int32)
        for filled, row in zip(table, rows, strict=False):
            filled[width - len(row) :] = row
        return SequenceTable(table)

    def check_vocabulary(self, who: str, name: str, vocab_size: int) -> None:
        """Raise ValueError for an id that the vocabulary lacks; tracers pass."""
        if not check.is_traced(self.ids):
            ids = np.asarray(self.ids)
            check.in_vocabulary(who, name, ids[ids != NO_ID], vocab_size)

    def lists(self) -> list[list[int]]:
        """Return the sequences as they were given, on the host."""
        rows = [[int(i) for i in row if i != NO_ID] for row in np.asarray(self.ids)]
        return [row for row in rows if row]

    def completing(
        self, tokens: jax.Array, length: jax.Array, begin: jax.Array | int = 0
    ) -> jax.Array:
        """Return the last id of each sequence whose other ids end the text, int32 [N].

        Args:
          tokens: int32 [T], the text and unused columns.
          length: int32, how many columns are the text.
          begin: int32, the first column that is looked at.

        Returns:
          `NO_ID` for a sequence whose other ids do not end the text.
        """
        fits = _matches(self.ids[:, :-1], tokens, length, begin)
        return jnp.where(fits, self.ids[:, -1], NO_ID)

    def ends_with(
        self, tokens: jax.Array, length: jax.Array, begin: jax.Array | int = 0
    ) -> jax.Array:
        """Whether a whole sequence ends the text, bool; arguments as `completing`."""
        fits = _matches(self.ids, tokens, length, begin)
        return jnp.any(fits & (self.ids[:, -1] != NO_ID))


def _matches(table: Array, tokens, length, begin) -> jax.Array:
    """Return which rows of a table [N, L] end the text, bool [N]; padding fits all."""
    width = table.shape[1]
    columns = length - width + jnp.arange(width, dtype=jnp.int32)
    inside = jnp.clip(columns, 0, tokens.shape[0] - 1)
    recent = jnp.where(columns >= begin, tokens[inside], -1)
    return jnp.all((table == recent[None, :]) | (table == NO_ID), axis=1)


def checked_sequences(who: str, name: str, sequences: Any) -> list[list[int]]:
    """Return sequences of token ids as lists, refusing anything else.

    Raises:
      TypeError: if they are not lists of integers.
      ValueError: for an empty sequence or a negative id.
    """
    if not _is_list(sequences):
        raise TypeError(
            f"{who}: `{name}` must be lists of token ids, got {check.short(sequences)}."
        )
    return [checked_sequence(who, name, ids) for ids in sequences]


def checked_sequence(who: str, name: str, ids: Any) -> list[int]:
    """Return one sequence of token ids as a list; errors as `checked_sequences`."""
    if not _is_list(ids):
        raise TypeError(
            f"{who}: `{name}` must be lists of token ids, [[...], ...], got "
            f"{check.short(ids)} in it."
        )
    if not len(ids):
        raise ValueError(f"{who}: `{name}` must not hold an empty sequence, got [].")
    return [check.token_id(who, name, i) for i in ids]


def _is_list(value: Any) -> bool:
    kinds = (Sequence, np.ndarray)
    return isinstance(value, kinds) and not isinstance(value, (str, bytes))
