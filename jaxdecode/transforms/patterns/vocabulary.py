"""The bytes of each token, from whatever a person has that knows them."""

from collections.abc import Sequence
from typing import Any

from jaxdecode.core import check


def vocabulary_of(who: str, tokens: Any) -> tuple[Sequence[bytes | None], Any]:
    """Return the bytes of each token, and the ids that end a text as far as known."""
    tokenizer = getattr(tokens, "tokenizer", tokens)  # of a LanguageModel
    pieces = getattr(tokenizer, "token_bytes", tokenizer)
    if not isinstance(pieces, (list, tuple)):
        raise TypeError(
            f"{who}: `tokens` must be a LanguageModel with a tokenizer, a tokenizer, or "
            f"a list with the bytes of each token, got {check.short(tokens)}."
        )
    model = getattr(tokens, "model", None)
    if model is not None:
        pieces = pieces[: model.vocab_size]
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
