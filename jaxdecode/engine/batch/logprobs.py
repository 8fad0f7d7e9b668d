"""Log-probs of a text in the two forms of OpenAI's interface.

All are those of the model's own distribution, before any link of a sampler.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jaxdecode.engine.batch.requests import Line
from jaxdecode.engine.results import Piece, Sample
from jaxdecode.text import LanguageModel

BytesOf = Callable[[int], bytes]


def logprobs_of(
    line: Line, sample: Sample | Piece, bytes_of: BytesOf, *, offset: int = 0
) -> dict[str, Any]:
    """Return the log-probs of a text, or a piece of one.

    Args:
      line: what was asked.
      sample: the text.
      bytes_of: what one token is written as.
      offset: characters of the tokens before a piece.
    """
    numbers, best = rounded(sample.model_logprobs), list(_best(line.top, sample))
    if line.kind == "chat":
        content = [
            _entry(token, number, bytes_of)
            | {"top_logprobs": [_entry(*one, bytes_of) for one in others]}
            for token, number, others in zip(sample.tokens, numbers, best, strict=True)
        ]
        return {"content": content, "refusal": None}
    texts = [_text(bytes_of(token)) for token in sample.tokens]
    ends = itertools.accumulate(map(len, texts), initial=offset)
    top = [
        _by_text([*others, (token, number)], bytes_of)
        for token, number, others in zip(sample.tokens, numbers, best, strict=True)
    ]
    return {
        "tokens": texts,
        "token_logprobs": numbers,
        "top_logprobs": top if line.top else None,
        "text_offset": list(ends)[:-1],
    }


def bytes_in(lm: LanguageModel) -> BytesOf:
    """Return what a model's tokens are written as; nothing, without a tokenizer."""
    tokenizer = lm.tokenizer
    if tokenizer is None:
        return lambda token: b""
    return lambda token: tokenizer.bytes_of(token, skip_special=False)


def rounded(values: Iterable[float]) -> list[float]:
    """Return float32 numbers with no more digits than they need."""
    return [float(str(np.float32(value))) for value in values]


def _best(top: int, sample: Sample | Piece) -> Iterator[list[tuple[int, float]]]:
    """Yield the likeliest tokens beside each token, best first."""
    if not top or not sample.tokens:  # what ends a cancelled text observed nothing
        yield from ([] for _ in sample.tokens)
        return
    for ids, row in zip(
        sample.observed["top_ids"], sample.observed["top_logprobs"], strict=True
    ):
        pairs = zip(ids[:top].tolist(), rounded(row[:top]), strict=True)
        yield [(token, number) for token, number in pairs if token >= 0]


def _entry(token: int, number: float, bytes_of: BytesOf) -> dict[str, Any]:
    written = bytes_of(token)
    return {"token": _text(written), "logprob": number, "bytes": list(written)}


def _by_text(pairs: list[tuple[int, float]], bytes_of: BytesOf) -> dict[str, float]:
    """Return log-probs by text; of tokens that look the same, the likelier one's."""
    found: dict[str, float] = {}
    for token, number in pairs:
        text = _text(bytes_of(token))
        found[text] = max(number, found.get(text, number))
    return found


def _text(written: bytes) -> str:
    return written.decode("utf-8", "replace")
