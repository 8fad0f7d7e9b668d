"""What `--stats` reports: how many tokens became text, and when.

The counter wraps the tokenizer and records the tokens that it is given to decode. So the
figures count tokens, not pieces of text, and need no second way of generating.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxdecode.cli.clock import since_start

if TYPE_CHECKING:
    from jaxdecode.text import Detokenizer, Tokenizer


class TokenCounter:
    """A tokenizer that counts the tokens it decodes.

    Args:
      tokenizer: the tokenizer that does the work.
    """

    def __init__(self, tokenizer: "Tokenizer"):
        self._tokenizer = tokenizer
        self.reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def reset(self, start: float = 0.0) -> None:
        """Forget all counts; times are measured from `start`, a time of `since_start`."""
        self.start = start
        self.rows: list[list[int]] = []
        self.times: list[float] = []

    def stream(self, **options: Any) -> "Detokenizer":
        """Return a detokenizer; tokens from now on belong to a new text."""
        self.rows.append([])
        return self._tokenizer.stream(**options)

    def bytes_of(self, token: int, **options: Any) -> bytes:
        """Return the bytes of a drawn token, and count it."""
        self.rows[-1].append(token)
        self.times.append(since_start())
        return self._tokenizer.bytes_of(token, **options)

    def decode(self, ids: Any, **options: Any) -> str:
        """Return the text of tokens, and count them as one text."""
        self.rows.append([int(i) for i in ids])
        self.times.append(since_start())
        return self._tokenizer.decode(ids, **options)

    def report(
        self, eos_ids: Sequence[int], max_new_tokens: int, may_stop: bool = False
    ) -> str:
        """Return one line with times, number of tokens and why the texts ended.

        Args:
          eos_ids: ids that end a text.
          max_new_tokens: the budget.
          may_stop: whether a stop string could end a text.
        """
        count = sum(len(row) for row in self.rows)
        if not count:
            return "no tokens"
        otherwise = "stop" if may_stop else "invalid logits"
        ends = [_end(row, eos_ids, max_new_tokens, otherwise) for row in self.rows]
        parts = [f"{count} tokens", f"ended by {', '.join(ends)}"]
        first, last = self.times[0] - self.start, self.times[-1] - self.start
        if len(self.times) == count:
            parts.insert(0, f"first token after {first:.2f} s")
            if last > first:
                parts.append(f"{(count - 1) / (last - first):.1f} tokens/s after it")
        else:
            parts.insert(0, f"all tokens after {first:.2f} s")
        return "; ".join(parts)


def _end(
    row: list[int], eos_ids: Sequence[int], max_new_tokens: int, otherwise: str
) -> str:
    if row and row[-1] in eos_ids:
        return "end of text"
    return "length" if len(row) >= max_new_tokens else otherwise
