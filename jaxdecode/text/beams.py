"""Beam search in text: prompts are encoded, hypotheses come back as texts with scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdecode.core.status import Status
from jaxdecode.decode import beam
from jaxdecode.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextHypothesis:
    """One continuation that a beam search found.

    Attributes:
      text: the continuation without its special tokens.
      score: its score; the higher the better.
      status: why it ended.
      tokens: its token ids, the eos included.
    """

    text: str
    score: float
    status: Status
    tokens: tuple[int, ...]


def search_texts(
    model: Any, tokenizer: Tokenizer, prompts: list[list[int]], **options: Any
) -> list[list[TextHypothesis]]:
    """Return the hypotheses of each prompt, best first; those never found are left out.

    Args:
      model: what satisfies the `Model` protocol.
      tokenizer: what turns tokens into text.
      prompts: token lists.
      **options: as in `beam_search`.
    """
    found = beam.beam_search(model, prompts, **options)
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
            kept = ids[:length].tolist()
            text = tokenizer.decode(kept)
            hypotheses.append(
                TextHypothesis(text, float(score), Status(int(end)), tuple(kept))
            )
    return hypotheses
