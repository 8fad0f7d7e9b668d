"""What an engine did, in numbers: plain Python.

Gaps between tokens are kept as a histogram whose buckets grow by two percent, so that
memory does not grow with the run.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

GROWTH = math.log(1.02)


class Gaps:
    """Seconds between two tokens of a running row."""

    def __init__(self):
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float, times: int) -> None:
        """Add a gap that occurred a number of times."""
        if times > 0:
            bucket = math.ceil(math.log(max(seconds, 1e-6)) / GROWTH)
            self._buckets[bucket] += times

    def quantile(self, q: float) -> float:
        """Return the gap that a fraction q of all gaps does not exceed; 0 of none."""
        left = q * sum(self._buckets.values())
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return math.exp(bucket * GROWTH)
        return 0.0


@dataclasses.dataclass
class Statistics:
    """Counts and times since the engine was made, or since they were reset.

    Attributes:
      slots: rows of a pool.
      requests: requests that ended, cancelled ones too.
      prompt_tokens: tokens of prompts, those of shared beginnings too.
      reused_tokens: how many of these were not read again.
      generated_tokens: tokens that belong to texts.
      steps: steps of all pools.
      row_steps: row by row, the steps in which a row drew a token.
      awaited_steps: those of the steps during which a request waited for a slot.
      awaited_row_steps: the same of the row steps.
      prefill_seconds: time that reading prompts and admitting took.
      decode_seconds: time that the steps took.
      gaps: seconds between two tokens of a running row.
      programs: what has been compiled for, each with its shapes.
    """

    slots: int
    requests: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    row_steps: int = 0
    awaited_steps: int = 0
    awaited_row_steps: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    gaps: Gaps = dataclasses.field(default_factory=Gaps)
    programs: set[Any] = dataclasses.field(default_factory=set)

    @property
    def occupancy(self) -> float:
        """The part of the slots that drew a token, over all steps."""
        return self.row_steps / max(self.steps * self.slots, 1)

    @property
    def occupancy_until_tail(self) -> float:
        """The same over the steps during which a request waited for a slot; 0 of none."""
        return self.awaited_row_steps / max(self.awaited_steps * self.slots, 1)

    def count_chunk(
        self,
        *,
        new: Sequence[int],
        older: int,
        owned: int,
        seconds: float,
        pause: float,
        is_awaited: bool,
    ) -> None:
        """Count a chunk of steps.

        Args:
          new: how many tokens each row drew.
          older: rows that had drawn tokens before.
          owned: rows that a request has.
          seconds: time that the steps took.
          pause: time between the pool's last chunk and this one.
          is_awaited: whether a request waited for a slot.
        """
        steps, drawn = max(new, default=0), sum(new)
        self.steps += steps
        self.row_steps += drawn
        self.awaited_steps += steps * is_awaited
        self.awaited_row_steps += drawn * is_awaited
        self.decode_seconds += seconds
        each = seconds / max(steps, 1)
        self.gaps.add(each + pause, older)
        self.gaps.add(each, owned * (steps - 1))

    def reset(self) -> None:
        """Count from zero; what was compiled stays compiled."""
        self.__init__(self.slots, programs=self.programs)

    def summary(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "reused_prompt_tokens": self.reused_tokens,
            "generated_tokens": self.generated_tokens,
            "steps": self.steps,
            "slots": self.slots,
            "slot_occupancy": round(self.occupancy, 4),
            "slot_occupancy_until_tail": round(self.occupancy_until_tail, 4),
            "prefill_seconds": round(self.prefill_seconds, 3),
            "decode_seconds": round(self.decode_seconds, 3),
            "token_gap_p50_seconds": round(self.gaps.quantile(0.5), 5),
            "token_gap_p99_seconds": round(self.gaps.quantile(0.99), 5),
        }
