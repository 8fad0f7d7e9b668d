"""Text to token ids and back, whatever file the vocabulary came from.

Control tokens are found here and nowhere else: the Rust tokenizer underneath cannot
produce one, so `<|im_end|>` typed by a user is ordinary text. Only `parse_special=True`,
or an id put between pieces of text, makes a control id. Nothing changes after
construction: one tokenizer may be used from several threads.
"""

import functools
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdecode.core import check
from jaxdecode.text.detokenizer import Detokenizer, Pieces, byte_alphabet


@dataclass(frozen=True)
class Special:
    """A control token: how it is written and what it swallows around it.

    Attributes:
      text: as it is written.
      id: its token id.
      lstrip: whether it takes the white space before it.
      rstrip: whether it takes the white space behind it.
      single_word: whether it must not touch a letter, digit or underscore.
    """

    text: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False

    @property
    def pattern(self) -> str:
        """The regular expression that finds it."""
        word = r"(?<!\w){}(?!\w)" if self.single_word else "{}"
        left, right = (r"\s*" if f else "" for f in (self.lstrip, self.rstrip))
        return left + word.format(re.escape(self.text)) + right


class Tokenizer:
    """Cuts text into tokens and puts tokens together to text.

    Made by `load_tokenizer`.

    Args:
      first: Rust tokenizer for text at the very start; knows no control token.
      rest: the same for text behind a control token.
      pieces: what each token stands for.
      special: the control tokens.
      prefix: ids that the vocabulary's owner puts before a text.
      suffix: ids put behind it.
      bos_id: the id that begins a text, for `add_special=True`.
      vocab_size: number of token ids.
    """

    def __init__(
        self,
        first: Any,
        rest: Any,
        pieces: Pieces,
        *,
        special: Iterable[Special] = (),
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
        bos_id: int | None = None,
        vocab_size: int,
    ):
        self.vocab_size = vocab_size
        self._first, self._rest, self._pieces = first, rest, pieces
        self._special = {token.text: token.id for token in special if token.text}
        self._pattern = _alternatives([token for token in special if token.text])
        self.special_ids = frozenset(token.id for token in special)
        self._prefix, self._suffix = tuple(prefix), tuple(suffix)
        self._bos_id = bos_id
        self._missing = _missing_bytes(first, pieces)

    def encode(
        self, text: str, *, parse_special: bool = False, add_special: bool | None = None
    ) -> list[int]:
        """Return the token ids of a text.

        Args:
          text: any text; for byte-level vocabularies `decode` gives it back unchanged.
          parse_special: whether `<|im_end|>` and the like are control tokens; otherwise
            they are text like any other, so that a text from outside cannot steer the
            model. Words that a vocabulary adds without calling them control tokens are
            always recognised.
          add_special: whether to put the beginning (and end) token around the text; None
            does what the vocabulary's owner asks for.

        Returns:
          The ids.

        Raises:
          TypeError: if `text` is not a str.
          ValueError: for lone surrogates, and for a byte that the vocabulary lacks.
        """
        check_text("Tokenizer.encode", "text", text)
        pieces = self.split(text) if parse_special else [text]
        return self.encode_pieces(pieces, add_special=add_special)

    def encode_pieces(
        self, pieces: Iterable[str | int], *, add_special: bool | None = None
    ) -> list[int]:
        """Return the token ids of ordinary text with control ids in between.

        Neighbouring texts are joined first, so that where they meet is cut into tokens
        as in one text.

        Args:
          pieces: texts, in which nothing is a control token, and ids, taken as they are.
          add_special: as in `encode`.
        """
        prefix, suffix = self._around(add_special)
        ids, stretch, start = [], [], True
        for piece in [*pieces, None]:
            if isinstance(piece, str):
                stretch.append(piece)
                continue
            text = "".join(stretch)
            ids += self._ordinary(text, self._first if start else self._rest)
            stretch, start = [], False
            if piece is not None:
                ids.append(piece)
        return [*prefix, *ids, *suffix]

    def split(self, text: str) -> list[str | int]:
        """Return a text with its control tokens, longest first, replaced by their ids."""
        pieces, end = [], 0
        if self._pattern is None:
            return [text]
        for found in self._pattern.finditer(text):
            written = found.group()
            if written not in self._special:
                written = written.strip()
            pieces += [text[end : found.start()], self._special[written]]
            end = found.end()
        return [piece for piece in [*pieces, text[end:]] if piece != ""]

    def decode(
        self, ids: Any, *, skip_special: bool = True, continues: bool = False
    ) -> str:
        """Return the text of token ids.

        Args:
          ids: token ids. One without a text, such as one that pads a vocabulary to a
            round size, adds nothing.
          skip_special: whether to leave control tokens out.
          continues: whether the text goes on from an earlier one; otherwise the space
            that SentencePiece vocabularies put before the first word is left out.

        Returns:
          The text; bytes that are not valid UTF-8 become U+FFFD.

        Raises:
          TypeError: for something that is not an integer.
          ValueError: for a negative id.
        """
        skip = self.special_ids if skip_special else ()
        tokens = [check.token_id("Tokenizer.decode", "ids", i) for i in _listed(ids)]
        raw = b"".join(self._pieces[i] for i in tokens if i not in skip)
        text = raw.decode("utf-8", "replace")
        strip = 0 if continues else self._pieces.strip
        return text[min(strip, len(text) - len(text.lstrip(" "))) :]

    def stream(
        self, *, skip_special: bool = True, continues: bool = False
    ) -> Detokenizer:
        """Return what turns tokens into text one at a time; arguments as in `decode`."""
        skip = self.special_ids if skip_special else frozenset()
        return Detokenizer(self._pieces, skip=skip, continues=continues)

    def token(self, token: int) -> str:
        """Return how the vocabulary spells a token, for inspection."""
        return self._pieces.tokens.get(token, "")

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes a token adds to a text; none for control tokens.

        The first word's space of a SentencePiece vocabulary, which `decode` leaves out
        at the start of a text, is among them.
        """
        return b"" if token in self.special_ids else self._pieces[token]

    @functools.cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes each token adds to a text, by id: what `Stops.of` asks for."""
        return tuple(self.bytes_of(token) for token in range(self.vocab_size))

    @property
    def special_tokens(self) -> dict[str, int]:
        """The control tokens: how they are written, and their ids."""
        return dict(self._special)

    def __repr__(self) -> str:
        return (
            f"Tokenizer(vocab_size={self.vocab_size}, style={self._pieces.style!r}, "
            f"special={len(self.special_ids)})"
        )

    def _around(self, add: bool | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if add is False:
            return (), ()
        if add and not self._prefix:
            if self._bos_id is None:
                raise ValueError(
                    "Tokenizer.encode: `add_special` must not be True here: the "
                    "vocabulary names no token that begins a text."
                )
            return (self._bos_id,), self._suffix
        return self._prefix, self._suffix

    def _ordinary(self, text: str, rust: Any) -> list[int]:
        if not text:
            return []
        if self._missing and not self._missing.isdisjoint(text.encode()):
            bad = next(c for c in text if not self._missing.isdisjoint(c.encode()))
            raise ValueError(
                f"Tokenizer.encode: the vocabulary has no token for {bad!r} "
                f"(U+{ord(bad):04X}), at index {text.index(bad)}: remove it."
            )
        return rust.encode(text, add_special_tokens=False).ids


def check_text(who: str, name: str, text: Any) -> str:
    """Return a text, refusing what is not a str or cannot be written as UTF-8.

    Raises:
      TypeError: if it is not a str.
      ValueError: for lone surrogates.
    """
    if not isinstance(text, str):
        raise TypeError(
            f"{who}: `{name}` must be a str, got {check.short(text)} "
            f"({type(text).__name__})."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{who}: `{name}` must be text without lone surrogates, got "
            f"{text[error.start]!r} at index {error.start}."
        ) from None
    return text


def _alternatives(special: Collection[Special]) -> re.Pattern[str] | None:
    longest = sorted(special, key=lambda token: (-len(token.text), token.text))
    return re.compile("|".join(t.pattern for t in longest)) if longest else None


def _missing_bytes(rust: Any, pieces: Pieces) -> frozenset[int]:
    # Byte-level BPE drops a byte that its vocabulary lacks, without a word.
    if pieces.style != "bytes":
        return frozenset()
    letters = byte_alphabet().items()
    return frozenset(b for c, b in letters if rust.token_to_id(c) is None)


def _listed(ids: Any) -> Iterable[Any]:
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__iter__"):
        raise TypeError(
            f"Tokenizer.decode: `ids` must be token ids, got {check.short(ids)}."
        )
    return ids if isinstance(ids, (list, tuple)) else list(np.asarray(ids))
