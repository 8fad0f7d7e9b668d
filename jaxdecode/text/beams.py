"""Beam search in text: hypotheses as texts with scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdecode.core.protocol import Model
from jaxdecode.core.status import Status
from jaxdecode.decode.beam import beam_search
from jaxdecode.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextHypothesis:
    """One continuation that a beam search found.

    Attributes:
      text: the continuation without its special tokens.
      score: its score; higher is better.
      status: why it ended.
      tokens: its token ids, the eos included.
    """

    text: str
    score: float
    status: Status
    tokens: tuple[int, ...]


def search_texts(
    model: Model, tokenizer: Tokenizer, prompts: list[list[int]], **options: Any
) -> list[list[TextHypothesis]]:
    """Return the hypotheses of each prompt, best first, without invalid ones.

    Args:
      model: anything that satisfies the `Model` protocol.
      tokenizer: turns tokens into text.
      prompts: token lists.
      **options: as in `beam_search`.
    """
    found = beam_search(model, prompts, **options)
    rows = zip(
        np.asarray(found.tokens),
        np.asarray(found.lengths),
        np.asarray(found.scores),
        np.asarray(found.status),
        strict=True,
    )
    return [_of_one_prompt(tokenizer, *row) for row in rows]


def _of_one_prompt(tokenizer, tokens, lengths, scores, status) -> list[TextHypothesis]:
    hypotheses = []
    for ids, length, score, end in zip(tokens, lengths, scores, status, strict=True):
        if end != Status.INVALID:
            ids = ids[:length].tolist()
            text = tokenizer.decode(ids)
            hypotheses.append(
                TextHypothesis(text, float(score), Status(int(end)), tuple(ids))
            )
    return hypotheses
