"""Stop strings and stop sequences of a text, and where they cut it.

The loop on the device finds the token that completes a stop. Here the text is cut where
the stop begins, or after it. A stream holds back text that may be the beginning of a
stop. Everything works on bytes; a stop never begins or ends inside a character.

Stops are looked for in the text as it is with control tokens shown, so that a stop may be
`<|im_end|>`, or hold one. What is given out is the text without them.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.shapes import Array
from jaxdecode.decode import Stops
from jaxdecode.text.tokenizer import Tokenizer, check_text
from jaxdecode.transforms.automaton import Automaton, token_table
from jaxdecode.transforms.sequence_table import checked_sequences


@dataclass(frozen=True)
class Stopping:
    """What ends a text, for the loop and for the cut.

    Attributes:
      stops: what the loop looks for, or None.
      sequences: stop sequences of tokens.
      strings: the stop strings, or None.
      tokenizer: knows the bytes of each token.
      keep: whether the stop stays in the text.
    """

    stops: Stops | None
    sequences: tuple[tuple[int, ...], ...]
    strings: Automaton | None
    tokenizer: Tokenizer
    keep: bool


class StoppedText:
    """Turns tokens into text as they come, up to the stop.

    Args:
      stopping: what ends the text.
      continues: as in `Tokenizer.stream`.
    """

    def __init__(self, stopping: Stopping, *, continues: bool):
        self._of = stopping
        self._text = stopping.tokenizer.stream(continues=continues)
        self._state = 0  # of the automaton of the stop strings
        self._held = b""  # control tokens shown
        self._shown = b""  # for each held byte, whether it is given out
        self._recent: list[tuple[int, int]] = []  # tokens and their sizes in bytes
        self._longest = max(map(len, stopping.sequences), default=0)

    def push(
        self, tokens: Sequence[int] | Array, *, stopped: bool, ended: bool = False
    ) -> str:
        """Add tokens and return new text.

        Args:
          tokens: the next token ids.
          stopped: whether the last of them completes a stop.
          ended: whether the last of them is an eos id, which may end a stop string too.
        """
        last = len(tokens) - (1 if len(tokens) and (stopped or ended) else 0)
        shown = b"".join([self._next(int(token)) for token in tokens[:last]])
        if last < len(tokens):
            sequences = self._of.sequences if stopped else ()
            shown += self._stop(int(tokens[last]), sequences)
        return self._text.push_bytes(shown)

    def completes(self, token: int) -> bool:
        """Whether a token, were it the next, completes a stop."""
        strings = self._of.strings
        if strings is not None:
            data = self._of.tokenizer.bytes_of(token, skip_special=False)
            if strings.first(self._state, data) is not None:
                return True
        ids = (*(recent for recent, _ in self._recent), token)
        return any(ids[-len(s) :] == s for s in self._of.sequences)

    def finish(self) -> str:
        """End the text: return what was held back."""
        return self._text.push_bytes(self._release(0)) + self._text.finish()

    def _next(self, token: int) -> bytes:
        self._append(token)
        return self._release(max(self._begun_string(), self._begun_sequence()))

    def _stop(self, token: int, sequences: Sequence[tuple[int, ...]]) -> bytes:
        before, state = len(self._held), self._state
        self._append(token)
        begin = end = len(self._held)
        strings = self._of.strings
        found = strings and strings.first(state, self._held[before:])
        if found:
            end = before + found[0]
            begin = end - found[1]
        ids = tuple(recent for recent, _ in self._recent)
        for sequence in sequences:
            count = len(sequence)
            if ids[-count:] == sequence:
                begin = min(begin, len(self._held) - self._size(count))
        cut = end if self._of.keep else begin
        self._held = self._held[:cut]
        if found:  # a stop that is kept is kept whole
            self._shown = self._shown[:begin] + b"\1" * (end - begin)
        return self._release(0)

    def _append(self, token: int) -> None:
        tokenizer = self._of.tokenizer
        data = tokenizer.bytes_of(token, skip_special=False)
        self._held += data
        self._shown += (b"\0" if token in tokenizer.special_ids else b"\1") * len(data)
        self._recent = [*self._recent, (token, len(data))][-max(self._longest, 1) :]
        if self._of.strings is not None:
            self._state = self._of.strings.after(self._state, data)

    def _release(self, hold: int) -> bytes:
        """Return the held bytes but the last `hold`, which stay held."""
        place = len(self._held) - hold
        data, self._held = self._held[:place], self._held[place:]
        shown, self._shown = self._shown[:place], self._shown[place:]
        return bytes(itertools.compress(data, shown)) if 0 in shown else data

    def _begun_string(self) -> int:
        """Return how many bytes at the end may begin a stop string."""
        strings = self._of.strings
        return 0 if strings is None else int(strings.depth[self._state])

    def _begun_sequence(self) -> int:
        """Return how many bytes at the end may begin a stop sequence."""
        ids = tuple(recent for recent, _ in self._recent)
        for count in range(min(len(ids), self._longest - 1), 0, -1):
            if any(ids[-count:] == s[:count] for s in self._of.sequences):
                return self._size(count)
        return 0

    def _size(self, count: int) -> int:
        return sum(size for _, size in self._recent[-count:])


def as_stopping(
    who: str,
    tokenizer: Tokenizer,
    vocab_size: int,
    *,
    stop: Sequence[Sequence[int]] | None,
    stop_strings: str | Sequence[str] | None,
    keep_stop: bool,
    on_device: bool = True,
) -> Stopping:
    """Return what ends a text besides an eos id.

    Args:
      who: the function asking, for messages.
      tokenizer: knows the bytes of each token.
      vocab_size: number of token ids.
      stop: lists of token ids, or None.
      stop_strings: texts, or None.
      keep_stop: whether the stop stays in the text.
      on_device: whether the loop looks for the stops; else the host does, token by
        token (`StoppedText.completes`), and `stops` is None.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for an empty stop, or an id beyond the vocabulary.
    """
    keep = check.flag(who, "keep_stop", keep_stop)
    if np.ndim(keep):
        raise TypeError(f"{who}: `keep_stop` must be True or False, got {keep_stop!r}.")
    sequences = checked_sequences(who, "stop", () if stop is None else stop)
    texts = _texts(who, stop_strings)
    stops = None
    if on_device and not (stop is None and stop_strings is None):
        table = _table(tokenizer, texts, vocab_size) if texts else None
        stops = Stops(Stops.of(sequences).sequences, table)
    return Stopping(
        stops=stops,
        sequences=tuple(map(tuple, sequences)),
        strings=_automaton(texts) if texts else None,
        tokenizer=tokenizer,
        keep=bool(keep),
    )


@functools.lru_cache(maxsize=64)
def _automaton(texts: tuple[str, ...]) -> Automaton:
    """Return the automaton of some stop strings; cached for the next call."""
    return Automaton.of([text.encode() for text in texts])


@functools.lru_cache(maxsize=8)
def _table(tokenizer: Tokenizer, texts: tuple[str, ...], vocab_size: int) -> jax.Array:
    """Return the stop strings as a table over tokens; cached for the next call."""
    pieces = list(tokenizer.stop_bytes[:vocab_size])
    pieces += [b""] * (vocab_size - len(pieces))
    return jax.device_put(token_table(_automaton(texts), pieces))


def _texts(who: str, stop_strings: str | Sequence[str] | None) -> tuple[str, ...]:
    listed = [stop_strings] if isinstance(stop_strings, str) else stop_strings or ()
    if not isinstance(listed, (list, tuple)):
        raise TypeError(
            f"{who}: `stop_strings` must be a str or a list of str, got "
            f"{check.short(stop_strings)} ({type(stop_strings).__name__})."
        )
    for text in listed:
        check_text(who, "stop_strings", text)
        if not text:
            raise ValueError(
                f"{who}: `stop_strings` must not hold an empty text, got ''."
            )
    return tuple(listed)
