"""Links that act on words of several tokens: biases and bans on sequences.

A sequence acts on its last token, and only where the text ends with all the others.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import assign, pytree, shared
from jaxdecode.transforms.base import Edit
from jaxdecode.transforms.sequence_table import SequenceTable


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
        table = SequenceTable.of("SequenceBias", "biases", [ids for ids, _ in pairs])
        biases = [_bias(bias) for _, bias in pairs]
        padding = np.zeros(table.ids.shape[0] - len(biases), np.float32)
        assign(self, "biases", np.append(np.asarray(biases, np.float32), padding))
        assign(self, "sequences", table)

    def __call__(self, logits, context, state):
        ids = self.sequences.completing(context.tokens, context.length)
        return logits.at[ids].add(self.biases, mode="drop")

    def check_vocabulary(self, vocab_size):
        self.sequences.check_vocabulary("SequenceBias", "biases", vocab_size)


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
        given = self.sequences
        if check.is_traced(given):
            given = SequenceTable(given)
        elif not isinstance(given, SequenceTable):
            given = SequenceTable.of("BanSequences", "sequences", given)
        assign(self, "sequences", given)

    def __call__(self, logits, context, state):
        ids = self.sequences.completing(context.tokens, context.length)
        return logits.at[ids].set(-jnp.inf, mode="drop")

    def check_vocabulary(self, vocab_size):
        self.sequences.check_vocabulary("BanSequences", "sequences", vocab_size)


def _pairs(biases: Any) -> list:
    pairs = list(biases.items()) if isinstance(biases, Mapping) else biases
    if not isinstance(pairs, (list, tuple)):
        raise TypeError(
            "SequenceBias: `biases` must be pairs (token ids, bias), "
            f"got {check.short(biases)}."
        )
    for pair in pairs:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TypeError(
                "SequenceBias: `biases` must be pairs (token ids, bias), "
                f"got {check.short(pair)}."
            )
    return list(pairs)


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
