"""Text to token ids and back, for vocabularies of any file format.

Control tokens are recognised here only: the Rust tokenizer underneath cannot produce
one, so `<|im_end|>` typed by a user is ordinary text. A control id comes only from
`parse_special=True`, or from an id put between pieces of text. A tokenizer is immutable
and may be used from several threads.
"""

import copy
import functools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxdecode.core import check
from jaxdecode.core.refusing import refusing
from jaxdecode.core.shapes import Array
from jaxdecode.text.detokenizer import (
    Detokenizer,
    PerToken,
    Pieces,
    byte_alphabet,
)
from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.special_tokens import Special, SpecialTokens


class Tokenizer:
    """Cuts text into tokens, and joins tokens to text.

    Made by `load_tokenizer`.

    Args:
      first: Rust tokenizer for text at the very start, without control tokens.
      rest: Rust tokenizer for text after a control token.
      pieces: the bytes of each token.
      special: the control tokens.
      prefix: ids that the vocabulary puts before a text.
      suffix: ids that the vocabulary puts after a text.
      bos_id: the id that begins a text, for `add_special=True`.
      vocab_size: number of token ids.

    Attributes:
      eos_ids: ids that end a text, as far as the vocabulary's model names them.
    """

    eos_ids: tuple[int, ...] = ()

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
        special = list(special)
        self._special = SpecialTokens(special)
        self.special_ids = frozenset(token.id for token in special)
        self._prefix, self._suffix = tuple(prefix), tuple(suffix)
        self._bos_id = bos_id
        self._missing = _missing_bytes(first, pieces)

    def ending_with(self, eos_ids: Iterable[int]) -> "Tokenizer":
        """Return the same tokenizer, which also knows the ids that end a text."""
        other = copy.copy(self)
        other.eos_ids = tuple(eos_ids)
        return other

    def encode(
        self, text: str, *, parse_special: bool = False, add_special: bool | None = None
    ) -> list[int]:
        """Return the token ids of a text.

        Args:
          text: any text; with byte-level vocabularies `decode` returns it unchanged.
          parse_special: whether `<|im_end|>` and the like are control tokens; otherwise
            they are ordinary text, so that untrusted text cannot control the model.
            Added words that the vocabulary does not declare control tokens are always
            recognised.
          add_special: whether to add the begin (and end) token; None does what the
            vocabulary says. A text that begins with the token (see `parse_special`)
            does not get a second one, and a warning says so.

        Returns:
          The ids.

        Raises:
          TypeError: if `text` is not a str.
          ValueError: for lone surrogates, and for a byte that the vocabulary lacks.
          TokenizerError: for a text that a vocabulary without a token for the unknown
            cannot express.
        """
        check_text("Tokenizer.encode", "text", text)
        pieces = self.split(text) if parse_special else [text]
        return self.encode_pieces(pieces, add_special=add_special)

    def encode_pieces(
        self,
        pieces: Iterable[str | int],
        *,
        add_special: bool | None = None,
        who: str = "Tokenizer.encode",
    ) -> list[int]:
        """Return the token ids of ordinary text with control ids in between.

        Neighbouring texts are joined first and cut into tokens as one text.

        Args:
          pieces: texts, in which nothing is a control token, and ids, taken as they are.
          add_special: as in `encode`.
          who: the method that was called, for a warning.
        """
        prefix, suffix = self._around(add_special)
        ids, texts, start = [], [], True
        for piece in [*pieces, None]:
            if isinstance(piece, str):
                texts.append(piece)
                continue
            text = "".join(texts)
            ids += self._ordinary(text, self._first if start else self._rest)
            texts, start = [], False
            if piece is not None:
                ids.append(piece)
        if prefix and ids[:1] == [prefix[0]]:
            warnings.warn(
                f"{who}: the text begins with {self.token(prefix[0])!r} itself; a "
                "second one is not put before it.",
                RuntimeWarning,
                stacklevel=4,
            )
            prefix = ()
        return [*prefix, *ids, *suffix]

    def split(self, text: str) -> list[str | int]:
        """Return a text with its control tokens, longest first, replaced by their ids."""
        pieces, end = [], 0
        for begin, after, token in self._special.find(text):
            pieces += [text[end:begin], token.id]
            end = after
        return [piece for piece in [*pieces, text[end:]] if piece != ""]

    def decode(
        self,
        ids: Sequence[int] | Array,
        *,
        skip_special: bool = True,
        continues: bool = False,
    ) -> str:
        """Return the text of token ids.

        Args:
          ids: token ids. One without a text, such as one that pads a vocabulary to a
            round size, adds nothing.
          skip_special: whether to leave control tokens out.
          continues: whether the text continues an earlier one; otherwise the space that
            SentencePiece vocabularies put before the first word is removed.

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
        """Return a `Detokenizer` for a new text; arguments as in `decode`."""
        skip = self.special_ids if skip_special else frozenset()
        return Detokenizer(self._pieces, skip=skip, continues=continues)

    def token(self, token: int) -> str:
        """Return the text of a token in the vocabulary, for inspection."""
        return self._pieces.tokens.get(token, "")

    def id_of(self, text: str) -> int | None:
        """Return the id of a token by its text in the vocabulary, or None."""
        if text in self._special.by_text:
            return self._special.by_text[text].id
        try:
            return self._first.token_to_id(text)
        except UnicodeEncodeError:  # lone surrogates, which no vocabulary has
            return None

    def bytes_of(self, token: int, *, skip_special: bool = True) -> bytes:
        """Return the bytes that a token adds to a text.

        Args:
          token: its id.
          skip_special: whether a control token adds nothing; otherwise its text.

        They include the space before a first word of SentencePiece vocabularies, which
        `decode` removes at the start of a text.
        """
        hidden = skip_special and token in self.special_ids
        return b"" if hidden else self._pieces[token]

    @functools.cached_property
    def token_bytes(self) -> Sequence[bytes]:
        """The bytes of each token id; b"" for control tokens."""
        return PerToken(self.bytes_of, self.vocab_size)

    @functools.cached_property
    def stop_bytes(self) -> Sequence[bytes]:
        """The bytes of each token id, control tokens too, as `Stops.of` takes them."""
        return PerToken(self._pieces.__getitem__, self.vocab_size)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The control tokens: their texts and ids."""
        return {text: token.id for text, token in self._special.by_text.items()}

    def special_starts(self, text: str) -> list[int]:
        """Return every place of a text at which a control token begins."""
        return self._special.starts(text)

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
                    "Tokenizer.encode: `add_special` must not be True: the vocabulary "
                    "has no token that begins a text."
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
        with refusing(TokenizerError, "Tokenizer.encode: `text` cannot be encoded"):
            return rust.encode(text, add_special_tokens=False).ids


def check_text(who: str, name: str, text: Any) -> str:
    """Return a text after checking that it can be encoded as UTF-8.

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


def _missing_bytes(rust: Any, pieces: Pieces) -> frozenset[int]:
    # Byte-level BPE silently drops a byte that its vocabulary lacks.
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
