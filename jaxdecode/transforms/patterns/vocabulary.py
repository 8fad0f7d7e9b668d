"""The bytes of each token, from whatever a person has that knows them."""

import functools
from collections.abc import Sequence
from typing import Any

from jaxdecode.core import check

TOKENS_MAX = 2**20  # ids; the largest vocabularies have a quarter of that


def vocabulary_of(who: str, tokens: Any) -> tuple[Sequence[bytes | None], Any]:
    """Return the bytes of each token, and the ids that end a text as far as known."""
    tokenizer = getattr(tokens, "tokenizer", tokens)  # of a LanguageModel
    pieces = getattr(tokenizer, "token_bytes", tokenizer)
    if not isinstance(pieces, Sequence) or isinstance(pieces, (str, bytes)):
        raise TypeError(
            f"{who}: `tokens` must be a LanguageModel with a tokenizer, a tokenizer, or "
            f"a list with the bytes of each token, got {check.short(tokens)}."
        )
    model = getattr(tokens, "model", None)
    size = len(pieces) if model is None else min(model.vocab_size, len(pieces))
    if size > TOKENS_MAX:
        raise ValueError(f"{who}: `tokens` must be at most {TOKENS_MAX}, got {size}.")
    made_on_demand = not isinstance(pieces, (list, tuple))
    pieces = _listed(pieces, size) if made_on_demand else pieces[:size]
    for i, piece in enumerate(pieces):
        if piece is not None and not isinstance(piece, bytes):
            raise TypeError(
                f"{who}: `tokens` must be bytes, or None for control tokens, got "
                f"{check.short(piece)} for token {i}."
            )
    if not pieces:
        raise ValueError(f"{who}: `tokens` must hold at least one token, got none.")
    ends = getattr(tokens, "eos_ids", ())
    return pieces, [i for i in ends if i < len(pieces)]


@functools.lru_cache(maxsize=4)
def _listed(pieces: Sequence[bytes], size: int) -> tuple[bytes, ...]:
    """Return pieces that are made when they are asked for, once for all patterns."""
    return tuple(pieces[:size])
