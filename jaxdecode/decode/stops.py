"""Where a row stops: sequences of tokens, and strings however tokens cut them.

A string is looked for byte by byte, but a step of the loop costs one lookup: all strings
are one automaton over bytes, and a table says where each token leads from each of its
states. It is built on the host from the bytes of every token; nothing here knows a
tokenizer. Only what was generated is looked at.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import NO_ID, Array
from jaxdecode.transforms.automaton import STATE, Automaton, token_table
from jaxdecode.transforms.sequence_table import SequenceTable


@pytree
class Stops:
    """What ends a row, as arrays; built by `Stops.of`, shared by all rows.

    Attributes:
      sequences: int32 [N, L], right-aligned and padded on the left.
      table: int32 [M, V], the state after each token, negative if a string was completed
        in it; None where there are no strings.
    """

    sequences: Array
    table: Array | None

    @staticmethod
    def of(
        sequences: Sequence[Sequence[int]] = (),
        strings: Sequence[str | bytes] = (),
        token_bytes: Sequence[bytes] | None = None,
    ) -> "Stops":
        """Return stops for some token sequences and strings.

        Args:
          sequences: lists of token ids.
          strings: texts, or their UTF-8 bytes.
          token_bytes: the bytes of each token of the vocabulary, V of them, as
            `Tokenizer.stop_bytes` gives them; only needed for strings.

        Raises:
          TypeError: if an id is not an integer, or a string is no text.
          ValueError: for an empty sequence or string, or strings without `token_bytes`.
        """
        padded = _padded("Stops", "sequences", sequences)
        patterns = [_as_bytes("Stops", text) for text in strings]
        if not patterns:
            return Stops(padded, None)
        if token_bytes is None:
            raise ValueError(
                "Stops: `token_bytes` must be given where there are strings, got None."
            )
        table = token_table(Automaton.of(patterns), token_bytes)
        return Stops(padded, table)

    def advance(
        self,
        cursor: jax.Array,
        token: jax.Array,
        tokens: jax.Array,
        length: jax.Array,
        begin: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Return one row's new state, and whether its last token completed a stop.

        Args:
          cursor: int32, 0 before the first token, then what the last call returned.
          token: int32, the token that was drawn.
          tokens: int32 [S], the row with that token in.
          length: int32, how many tokens it has.
          begin: int32, where its generated part begins.
        """
        hit = SequenceTable(self.sequences).ends_with(tokens, length, begin)
        if self.table is None:
            return cursor, hit
        entry = jnp.asarray(self.table)[cursor, token]
        return entry & STATE, hit | (entry < 0)


def as_stops(who: str, stop: Any, vocab_size: int) -> Stops | None:
    """Return checked stops for whatever may be passed as `stop`; None is no stop.

    Raises:
      TypeError: if it is neither lists of token ids nor `Stops`.
      ValueError: for an empty sequence, an id beyond the vocabulary, or strings that
        were prepared for another vocabulary.
    """
    if stop is None:
        return None
    if not isinstance(stop, Stops):
        stop = Stops(_padded(who, "stop", stop), None)
    if not check.is_traced(stop.sequences):
        ids = np.asarray(stop.sequences)
        check.in_vocabulary(who, "stop", ids[ids != NO_ID], vocab_size)
    if stop.table is not None and stop.table.shape[1] != vocab_size:
        raise ValueError(
            f"{who}: `stop` must be made for the model's {vocab_size} token ids, "
            f"got {stop.table.shape[1]}."
        )
    return stop


def _padded(who: str, name: str, sequences: Any) -> Array:
    return SequenceTable.of(who, name, sequences, longest=8).ids


def _as_bytes(who: str, text: Any) -> bytes:
    if not isinstance(text, (str, bytes)):
        raise TypeError(
            f"{who}: `strings` must be texts, got {check.short(text)} "
            f"({type(text).__name__})."
        )
    data = text.encode() if isinstance(text, str) else text
    if not data:
        raise ValueError(f"{who}: `strings` must not hold an empty text, got {text!r}.")
    return data
