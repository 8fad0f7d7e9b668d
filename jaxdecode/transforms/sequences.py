"""Links that speak of words of several tokens: biases and bans on sequences.

A sequence acts on its last token, and only where the text ends with all the others.
Sequences are padded to a few sizes: another list of about the same size is the same
program.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import assign, pytree, shared
from jaxdecode.core.shapes import bucket
from jaxdecode.transforms.base import Edit
from jaxdecode.transforms.context import Context
from jaxdecode.transforms.vocabulary import NO_ID, check_ids


@pytree
class SequenceBias(Edit):
    """Add a number to the logit of a token where it would complete a sequence.

    For a sequence (a, b, c) with bias x: `z[c] <- z[c] + x` where the text ends with
    a, b. A sequence of one token always acts; several that end in one token add up.

    Args:
      biases: pairs (token ids, bias), or {tuple of token ids: bias}; a bias is finite
        or -inf, which bans; no pairs at all is neutral. Shared by all rows.

    Raises:
      TypeError: if an id is not an integer or a bias not a number.
      ValueError: if a sequence is empty, an id negative or beyond the vocabulary, or a
        bias NaN or +inf.

    Reference: Hugging Face transformers, `sequence_bias`.
    """

    biases: Any = shared(default=())
    sequences: Any = shared(default=None)

    def __post_init__(self):
        if self.sequences is not None:
            raise TypeError("SequenceBias: takes one argument, `biases`.")
        pairs = _pairs(self.biases)
        rows = [_sequence("SequenceBias", "biases", ids) for ids, _ in pairs]
        table = _table(rows)
        biases = [_bias(bias) for _, bias in pairs]
        padding = np.zeros(table.shape[0] - len(biases), np.float32)
        assign(self, "biases", np.append(np.asarray(biases, np.float32), padding))
        assign(self, "sequences", table)

    def __call__(self, logits, context, state):
        ids = _completing(self.sequences, context)
        return logits.at[ids].add(self.biases, mode="drop")

    def check_vocabulary(self, vocab_size):
        check_ids("SequenceBias", "biases", self.sequences, vocab_size)


@pytree
class BanSequences(Edit):
    """Never complete these sequences of tokens.

    The last token of a sequence is banned where the text ends with all the others; a
    sequence of one token is always banned.

    Args:
      sequences: lists of token ids; none at all is neutral. Shared by all rows.

    Raises:
      TypeError: if an id is not an integer.
      ValueError: if a sequence is empty, or an id negative or beyond the vocabulary.

    Reference: Hugging Face transformers, `bad_words_ids`.
    """

    sequences: Any = shared(default=())

    def __post_init__(self):
        if not check.is_traced(self.sequences):
            listed = _listed("BanSequences", "sequences", self.sequences)
            rows = [_sequence("BanSequences", "sequences", ids) for ids in listed]
            assign(self, "sequences", _table(rows))

    def __call__(self, logits, context, state):
        ids = _completing(self.sequences, context)
        return logits.at[ids].set(-jnp.inf, mode="drop")

    def check_vocabulary(self, vocab_size):
        check_ids("BanSequences", "sequences", self.sequences, vocab_size)


def _completing(table: jax.Array, context: Context) -> jax.Array:
    """Return the last id of each sequence whose other ids end the text, else `NO_ID`.

    The table [N, L] is padded on the left, so that the last ids are one column.
    """
    width = table.shape[1] - 1
    columns = context.length - width + jnp.arange(width)
    inside = jnp.clip(columns, 0, context.tokens.shape[0] - 1)
    recent = jnp.where(columns >= 0, context.tokens[inside], -1)  # [L - 1]
    prefix = table[:, :-1]
    fits = jnp.all((prefix == recent[None, :]) | (prefix == NO_ID), axis=1)
    return jnp.where(fits, table[:, -1], NO_ID)


def _table(rows: list[list[int]]) -> np.ndarray:
    """Return sequences as int32 [N, L], right-aligned, padded with `NO_ID`."""
    width = bucket(max((len(row) for row in rows), default=1), low=4)
    table = np.full((bucket(len(rows), low=8), width), NO_ID, np.int32)
    for filled, row in zip(table, rows, strict=False):
        filled[width - len(row) :] = row
    return table


def _sequence(who: str, name: str, ids: Any) -> list[int]:
    listed = _listed(who, name, ids)
    if not listed:
        raise ValueError(f"{who}: `{name}` must not hold an empty sequence, got [].")
    return [check.token_id(who, name, i) for i in listed]


def _listed(who: str, name: str, value: Any) -> list:
    if isinstance(value, np.ndarray):
        return list(value)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise TypeError(
            f"{who}: `{name}` must be lists of token ids, got {check.short(value)}."
        )
    return list(value)


def _pairs(biases: Any) -> list:
    pairs = list(biases.items()) if isinstance(biases, Mapping) else biases
    listed = _listed("SequenceBias", "biases", pairs)
    for pair in listed:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TypeError(
                "SequenceBias: `biases` must be pairs (token ids, bias), "
                f"got {check.short(pair)}."
            )
    return listed


def _bias(value: Any) -> np.ndarray:
    bias = check.numeric("SequenceBias", "biases", value, np.float32)
    if np.ndim(bias):
        raise TypeError(
            "SequenceBias: `biases` must hold one number for each sequence, "
            f"got {check.short(value)}."
        )
    if np.isnan(bias) or bias == np.inf:
        raise ValueError(
            f"SequenceBias: `biases` must be finite or -inf, got {check.short(value)}."
        )
    return bias
