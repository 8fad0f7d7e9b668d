"""From encoded prompts to texts: all at once, or piece by piece.

A `TextRequest` holds a checked call of a `LanguageModel` method. The tokens are drawn by
`decode`; here they become text, cut at the stop.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdecode import decode
from jaxdecode.core.protocol import Model
from jaxdecode.core.shapes import Array, KeyLike
from jaxdecode.core.status import Status
from jaxdecode.text.options import NEW_TOKENS, TextOptions
from jaxdecode.text.stopping import StoppedText, Stopping, as_stopping
from jaxdecode.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextRequest:
    """What to write, and how.

    Attributes:
      who: the method that was called, for messages.
      model: the model.
      tokenizer: its tokenizer.
      prompts: the token ids of each prompt.
      key: as in `LanguageModel.generate`.
      settings: further arguments of `decode.generate` and `decode.stream`.
      stopping: what ends a text besides an eos id.
      continues: whether a text continues its prompt, so that a space at its start belongs
        to it. An answer in a conversation does not.
    """

    who: str
    model: Model
    tokenizer: Tokenizer
    prompts: list[list[int]]
    key: KeyLike
    settings: dict[str, Any]
    stopping: Stopping
    continues: bool

    @classmethod
    def of(
        cls,
        who: str,
        model: Model,
        tokenizer: Tokenizer,
        prompts: list[list[int]],
        key: KeyLike,
        options: TextOptions,
        *,
        pad_id: int,
        continues: bool,
    ) -> "TextRequest":
        """Return the request for some options, checking what ends a text.

        Raises:
          TypeError: for a stop of the wrong kind.
          ValueError: for an empty stop, or an id outside the vocabulary.
        """
        stopping = as_stopping(
            who,
            tokenizer,
            model.vocab_size,
            stop=options.get("stop"),
            stop_strings=options.get("stop_strings"),
            keep_stop=options.get("keep_stop", False),
        )
        settings = {
            "sampler": options.get("sampler"),
            "max_new_tokens": options.get("max_new_tokens", NEW_TOKENS),
            "eos_ids": options.get("eos_ids"),
            "pad_id": pad_id,
            "stop": stopping.stops,
        }
        return cls(who, model, tokenizer, prompts, key, settings, stopping, continues)


def generate_texts(request: TextRequest, num_samples: int = 1) -> list[str]:
    """Return `num_samples` texts for each prompt, in the order of the prompts."""
    drawn = decode.generate(
        request.model,
        request.prompts,
        request.key,
        num_samples=num_samples,
        **request.settings,
    )
    tokens, lengths = np.asarray(drawn.tokens), np.asarray(drawn.lengths)
    status = np.asarray(drawn.status)
    _warn_invalid(request, status, level=4)
    return [
        _text(request, row[:length], end)
        for row, length, end in zip(tokens, lengths, status, strict=True)
    ]


def stream_text(request: TextRequest) -> Iterator[str]:
    """Return an iterator over pieces of the text of one prompt, none of them empty.

    Joined, they are the text of `generate_texts`. Arguments are checked at the call,
    before the first piece is asked for.
    """
    drawn = decode.stream(
        request.model, request.prompts, request.key, **request.settings
    )
    return _pieces(request, drawn)


def _pieces(request: TextRequest, drawn: Iterator[decode.Generation]) -> Iterator[str]:
    text = StoppedText(request.stopping, continues=request.continues)
    for new in drawn:
        tokens = new.tokens[0, : new.lengths[0]]
        piece = _push(text, tokens, int(new.status[0]))
        if piece:
            yield piece
        _warn_invalid(request, new.status, level=3)
    rest = text.finish()
    if rest:
        yield rest


def _text(request: TextRequest, tokens: np.ndarray, end: int) -> str:
    if request.stopping.stops is None:
        return request.tokenizer.decode(tokens, continues=request.continues)
    text = StoppedText(request.stopping, continues=request.continues)
    return _push(text, tokens, end) + text.finish()


def _push(text: StoppedText, tokens: Array, end: int) -> str:
    return text.push(tokens, stopped=end == Status.STOP, ended=end == Status.EOS)


def _warn_invalid(request: TextRequest, status: Any, *, level: int) -> None:
    """Warn of rows that ended early; `level` leads to the line of the caller."""
    rows = np.flatnonzero(np.asarray(status) == Status.INVALID)
    if rows.size:
        warnings.warn(
            f"{request.who}: row {rows[0]} ended early: its logits held NaN or +inf, or "
            "every token was banned.",
            RuntimeWarning,
            stacklevel=level,
        )
