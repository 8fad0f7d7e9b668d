"""What the engine gives back: pieces while a text is written, and the whole result."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdecode.core.status import Status

REASONS = {
    Status.EOS: "stop",
    Status.STOP: "stop",
    Status.LENGTH: "length",
    Status.INVALID: "invalid",
}
CANCELLED = "cancelled"


@dataclasses.dataclass(frozen=True)
class Piece:
    """What one sample gained in a chunk.

    Attributes:
      sample: which sample of the request.
      text: new text, without a stop; "" inside a character, or without a tokenizer.
      tokens: new token ids.
      model_logprobs: log-probs of these under the model's own distribution.
      sampling_logprobs: the same under the distribution they were drawn from.
      finish_reason: None while it goes on; then "stop" (an eos id or a stop), "length",
        "invalid" (its logits held NaN or +inf, or every token was banned) or
        "cancelled".
      observed: what `observe` asked for, by name, an entry per token.
    """

    sample: int
    text: str
    tokens: tuple[int, ...]
    model_logprobs: tuple[float, ...]
    sampling_logprobs: tuple[float, ...]
    finish_reason: str | None
    observed: Mapping[str, np.ndarray] = dataclasses.field(
        default_factory=dict, compare=False
    )


@dataclasses.dataclass(frozen=True)
class Sample:
    """One text.

    Attributes:
      text: without the prompt, control tokens and the stop; "" without a tokenizer.
      tokens: its token ids, an eos id and a stop included.
      model_logprobs: log-probs of these under the model's own distribution.
      sampling_logprobs: the same under the distribution they were drawn from.
      finish_reason: "stop", "length", "invalid" or "cancelled".
      observed: what `observe` asked for, by name, an entry per token.
    """

    text: str
    tokens: tuple[int, ...]
    model_logprobs: tuple[float, ...]
    sampling_logprobs: tuple[float, ...]
    finish_reason: str
    observed: Mapping[str, np.ndarray] = dataclasses.field(
        default_factory=dict, compare=False
    )

    @staticmethod
    def of(pieces: Sequence[Piece]) -> "Sample":
        """Join the pieces of one sample."""
        return Sample(
            text="".join(piece.text for piece in pieces),
            tokens=tuple(t for piece in pieces for t in piece.tokens),
            model_logprobs=tuple(p for piece in pieces for p in piece.model_logprobs),
            sampling_logprobs=tuple(
                p for piece in pieces for p in piece.sampling_logprobs
            ),
            finish_reason=(pieces[-1].finish_reason if pieces else None) or CANCELLED,
            observed=_joined([piece.observed for piece in pieces]),
        )


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join what was observed; the last piece of a cancelled text has none."""
    names = parts[0] if parts else ()
    return {
        name: np.concatenate([part[name] for part in parts if name in part])
        for name in names
    }


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a request.

    Attributes:
      id: the name it was submitted under.
      samples: its texts, in order.
      prompt_tokens: tokens of its prompt.
    """

    id: object
    samples: tuple[Sample, ...]
    prompt_tokens: int

    @property
    def text(self) -> str:
        """The text of the first sample."""
        return self.samples[0].text

    @property
    def finish_reason(self) -> str:
        """Why the first sample ended."""
        return self.samples[0].finish_reason

    @property
    def generated_tokens(self) -> int:
        """Tokens of all samples."""
        return sum(len(sample.tokens) for sample in self.samples)
