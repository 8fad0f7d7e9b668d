"""From the tokens of a chunk to a piece of text, cut where a stop is complete.

The device runs on to the end of its chunk; what it drew after a stop is dropped here.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdecode.core.status import Status
from jaxdecode.engine.results import CANCELLED, REASONS, Piece
from jaxdecode.text.stopping import StoppedText, Stopping


class RowWriter:
    """Writes one sample.

    Args:
      sample: which one of its request.
      stopping: what ends the text besides an eos id; None writes no text.
      continues: as in `StoppedText`.
    """

    def __init__(self, sample: int, stopping: Stopping | None, *, continues: bool):
        self.sample = sample
        self.earliest_end = 0
        self._count = 0
        self._text = stopping and StoppedText(stopping, continues=continues)
        self._looks = bool(stopping and (stopping.strings or stopping.sequences))

    def push(
        self,
        tokens: Sequence[int],
        model_logprobs: Sequence[float],
        sampling_logprobs: Sequence[float],
        status: Status,
        *,
        observed: Mapping[str, np.ndarray],
    ) -> Piece:
        """Return what some new tokens are.

        Args:
          tokens: the tokens of a chunk.
          model_logprobs: one per token.
          sampling_logprobs: one per token.
          status: that of the row after them.
          observed: what is reported of each, one entry per token.
        """
        text, used, stopped = self._read(tokens, ends_in_eos=status is Status.EOS)
        reason = "stop" if stopped else REASONS.get(status)
        if reason is not None and self._text is not None:
            text += self._text.finish()
        return Piece(
            sample=self.sample,
            text=text,
            tokens=tuple(tokens[:used]),
            model_logprobs=tuple(model_logprobs[:used]),
            sampling_logprobs=tuple(sampling_logprobs[:used]),
            finish_reason=reason,
            observed={name: seen[:used] for name, seen in observed.items()},
        )

    def cancel(self) -> Piece:
        """Return the last piece of a sample that nobody wants any more."""
        text = self._text.finish() if self._text is not None else ""
        return Piece(self.sample, text, (), (), (), CANCELLED)

    def _read(
        self, tokens: Sequence[int], *, ends_in_eos: bool
    ) -> tuple[str, int, bool]:
        """Return new text, how many tokens belong to it, and whether a stop ends it."""
        if self._text is None:
            return "", len(tokens), False
        if not self._looks:
            text = self._text.push(tokens, stopped=False, ended=ends_in_eos)
            return text, len(tokens), False
        parts = []
        for index, token in enumerate(tokens):
            self._count += 1
            is_eos = ends_in_eos and index == len(tokens) - 1
            counts = self._count > self.earliest_end and not is_eos
            stopped = counts and self._text.completes(token)
            parts.append(self._text.push([token], stopped=stopped, ended=is_eos))
            if stopped:
                return "".join(parts), index + 1, True
        return "".join(parts), len(tokens), False
