"""Whether a request leaves a text the room to fit, and a token to end it."""

from typing import Any

import numpy as np

from jaxdecode.core import check
from jaxdecode.core.rows import Bank
from jaxdecode.core.shapes import NO_ID
from jaxdecode.transforms.patterns.lifting import START
from jaxdecode.transforms.patterns.tables import LEAST, Tables


def check_request(
    patterns: Tables | Bank, vocab_size: int, budget: Any, ends: Any
) -> None:
    """Refuse a request that the patterns cannot serve; traced values pass.

    Args:
      patterns: one for all rows, or one per row.
      vocab_size: how many tokens the model has.
      budget: tokens that may be generated, a number or one per row; or None.
      ends: int32 [E], ids that end a text, padded; or None.

    Raises:
      ValueError: naming the argument.
    """
    tables = one_per_entry(patterns)
    if check.is_traced(tables.states):
        return
    if tables.size > vocab_size:
        raise ValueError(
            f"Matches: `tokens` must be at most the model's ({vocab_size}), got "
            f"{tables.size}; give the bytes of those only, or the LanguageModel."
        )
    bound = np.asarray(tables.free) == 0
    if not check.is_traced(ends):
        _check_ends(tables, bound, ends)
    if budget is not None and not check.is_traced(budget):
        _check_budget(patterns, tables, bound, np.asarray(budget))


def one_per_entry(patterns: Tables | Bank) -> Tables:
    """Return tables with a leading axis, one for each entry of the bank."""
    if isinstance(patterns, Bank):
        return patterns.tables
    return Bank.of(patterns, 1).tables


def _check_ends(tables: Tables, bound: np.ndarray, ends: Any) -> None:
    """Refuse a text that cannot end, and an end that could be in its middle."""
    if ends is None:
        if (bound & ~(np.asarray(tables.eos_ids) != NO_ID).any(axis=1)).any():
            raise ValueError(
                "Matches: `eos_ids` must be given to the link where no text is "
                "generated (apply, score), got none."
            )
        return
    ids = np.asarray(ends)
    ids = ids[ids < tables.size]
    if bound.any() and not ids.size:
        raise ValueError(
            "Matches: `eos_ids` must hold at least one of the tokens, for a text that "
            "fits ends with one, got none."
        )
    width = tables.text.shape[-1]
    text = np.asarray(tables.text)[:, ids % width] >> (ids // width).astype(np.uint32)
    mixed = ids[((text & 1) > 0)[bound].any(axis=0)]
    if mixed.size:
        raise ValueError(
            "Matches: `eos_ids` must be tokens without text, or named to the link "
            f"(eos_ids=...) when it is made, got {mixed[0]}."
        )


def _check_budget(patterns, tables: Tables, bound, budget: np.ndarray) -> None:
    least = np.where(
        bound & (np.asarray(tables.finish) > 0),
        np.asarray(tables.states)[:, START, LEAST],
        0,
    )
    if isinstance(patterns, Bank):
        least = least[np.asarray(patterns.entry)]
    least, budget = np.broadcast_arrays(least, budget)
    short = np.flatnonzero(budget < least)
    if short.size:
        row = short[0]
        raise ValueError(
            f"Matches: `max_new_tokens` must be >= {least[row]}, the fewest tokens of a "
            f"text that fits, its end counted, got {budget[row]} for prompt {row}."
        )
