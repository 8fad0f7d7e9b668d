"""The events of a stream, as OpenAI's interface writes them: `data: {...}`, a blank line.

One event per piece of text; a chat begins each text with its role, every text ends with
its reason.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jaxdecode.engine import Piece, Result
from jaxdecode.engine.batch.answers import usage_of
from jaxdecode.engine.batch.logprobs import BytesOf, logprobs_of
from jaxdecode.server.bodies import Wanted

DONE = b"data: [DONE]\n\n"


class Events:
    """Writes the events of one answer.

    Args:
      wanted: what was asked for.
      head: what every event says.
      bytes_of: what one token is written as.
    """

    def __init__(self, wanted: Wanted, head: dict[str, Any], bytes_of: BytesOf):
        self._wanted, self._bytes_of = wanted, bytes_of
        self._head = dict(head)
        self._offsets: Counter[int] = Counter()  # characters so far, by text
        self._is_chat = wanted.line.kind == "chat"
        if self._is_chat:
            self._head["object"] = "chat.completion.chunk"

    def opening(self) -> Iterator[bytes]:
        """Yield what comes before any text."""
        if self._is_chat:
            for index in range(self._wanted.line.options["num_samples"]):
                delta = {"role": "assistant", "content": ""}
                yield self._event([self._choice(index, {"delta": delta})])

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """Yield the events of a piece."""
        if piece.text or (piece.tokens and self._wanted.line.logprobs):
            said = self._said(piece.text)
            if self._wanted.line.logprobs:
                said["logprobs"] = self._logprobs(piece)
            yield self._event([self._choice(piece.sample, said)])
        if piece.finish_reason is not None:
            said = {"delta": {}} if self._is_chat else {"text": ""}
            reason = {"finish_reason": piece.finish_reason}
            yield self._event([self._choice(piece.sample, said | reason)])

    def closing(self, result: Result) -> Iterator[bytes]:
        """Yield what comes after all texts."""
        if self._wanted.usage:
            yield self._event([], {"usage": usage_of(result)})
        yield DONE

    def _logprobs(self, piece: Piece) -> dict[str, Any]:
        offset = self._offsets[piece.sample]
        found = logprobs_of(self._wanted.line, piece, self._bytes_of, offset=offset)
        self._offsets[piece.sample] += sum(map(len, found.get("tokens", ())))
        return found

    def _said(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}} if self._is_chat else {"text": text}

    def _choice(self, index: int, said: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "logprobs": None, "finish_reason": None} | said

    def _event(self, choices: list[Any], more: dict[str, Any] | None = None) -> bytes:
        return event(self._head | {"choices": choices} | (more or {}))


def event(value: dict[str, Any]) -> bytes:
    """Return plain data as an event; JSON has no line end of its own."""
    return b"data: " + json.dumps(value, allow_nan=False).encode() + b"\n\n"
