"""What `--stats` reports: which tokens became text, and when.

A tokenizer that passes everything on and notes the tokens it is given to decode. So the
figures are of tokens, not of pieces of text, and need no second way of generating.
"""

from collections.abc import Sequence
from typing import Any

from jaxdecode.cli.clock import since_start


class Tally:
    """A tokenizer that keeps count of what it decodes.

    Args:
      tokenizer: the one that does the work.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self.begin()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def begin(self, zero: float = 0.0) -> None:
        """Forget what was counted; times are told from `zero` on, by `since_start`."""
        self.zero = zero
        self.rows: list[list[int]] = []
        self.times: list[float] = []

    def stream(self, **options: Any) -> Any:
        """Return a detokenizer; the tokens asked for from now on are one text."""
        self.rows.append([])
        return self._tokenizer.stream(**options)

    def bytes_of(self, token: int) -> bytes:
        """Return what a drawn token stands for, and count it."""
        self.rows[-1].append(token)
        self.times.append(since_start())
        return self._tokenizer.bytes_of(token)

    def decode(self, ids: Any, **options: Any) -> str:
        """Return the text of tokens and count them as one text."""
        self.rows.append([int(i) for i in ids])
        self.times.append(since_start())
        return self._tokenizer.decode(ids, **options)

    def report(self, eos_ids: Sequence[int], budget: int) -> str:
        """Return one line on times, number of tokens and how the texts ended."""
        count = sum(len(row) for row in self.rows)
        if not count:
            return "no tokens"
        ends = [_end(row, eos_ids, budget) for row in self.rows]
        parts = [f"{count} tokens", f"ended by {', '.join(ends)}"]
        first, last = self.times[0] - self.zero, self.times[-1] - self.zero
        if len(self.times) == count:
            parts.insert(0, f"first token after {first:.2f} s")
            if last > first:
                parts.append(f"{(count - 1) / (last - first):.1f} tokens/s after it")
        else:
            parts.insert(0, f"all tokens after {first:.2f} s")
        return "; ".join(parts)


def _end(row: list[int], eos_ids: Sequence[int], budget: int) -> str:
    if row and row[-1] in eos_ids:
        return "end of text"
    return "length" if len(row) >= budget else "invalid logits"
