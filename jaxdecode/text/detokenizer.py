"""From token ids back to text, all at once or one token at a time.

Every token stands for some bytes, and a text is the bytes of its tokens decoded as
UTF-8. Invalid bytes become U+FFFD, as the Unicode standard recommends. This file knows
the bytes of each token; it does not know how a text is cut into tokens.
"""

import codecs
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from jaxdecode.core import check

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")
SPACE_MARK = "\u2581"


def byte_alphabet() -> dict[str, int]:
    """Return the printable character that stands for each byte in byte-level BPE.

    Printable bytes of Latin-1 stand for themselves; the others, in order, are
    characters from U+0100 on (Radford et al., Language Models are Unsupervised Multitask
    Learners, 2019).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(own)]
    table = {chr(byte): byte for byte in own}
    return table | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


_ALPHABET = byte_alphabet()


@dataclass(frozen=True)
class Pieces:
    """The bytes of each token of a vocabulary.

    Attributes:
      tokens: text of each id as the vocabulary spells it; ids may be missing.
      style: "bytes" (byte-level BPE) or "spaces" (SentencePiece: a mark for the space).
      literal: ids whose text is taken as it is (control and added tokens).
      byte_tokens: whether tokens such as `<0xE4>` stand for one byte.
      strip: how many spaces to remove at the start of a text.
    """

    tokens: Mapping[int, str]
    style: str
    literal: Collection[int] = frozenset()
    byte_tokens: bool = False
    strip: int = 0
    _known: dict[int, bytes] = field(default_factory=dict, repr=False)

    def __getitem__(self, token: int) -> bytes:
        """Return the bytes of a token; b"" for an id without a text."""
        known = self._known.get(token)
        if known is None and token not in self.tokens:
            return b""
        if known is None:
            known = self._known[token] = self._bytes_of(token)
        return known

    def _bytes_of(self, token: int) -> bytes:
        text = self.tokens.get(token, "")
        if token in self.literal:
            return text.encode("utf-8", "replace")
        if self.style == "bytes":
            if all(c in _ALPHABET for c in text):
                return bytes(_ALPHABET[c] for c in text)
            return text.encode("utf-8", "replace")
        byte = BYTE_TOKEN.match(text) if self.byte_tokens else None
        if byte:
            return bytes([int(byte[1], 16)])
        return text.replace(SPACE_MARK, " ").encode("utf-8", "replace")


class PerToken(Sequence[bytes]):
    """The bytes of every token id, looked up one by one.

    The largest id is whatever a file says: nothing is stored for ids without a token.

    Args:
      bytes_of: from an id to its bytes.
      size: number of ids.
    """

    def __init__(self, bytes_of: Callable[[int], bytes], size: int):
        self._bytes_of, self._size = bytes_of, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, token):  # type: ignore[override]
        found = range(self._size)[token]
        if isinstance(found, range):
            return [self._bytes_of(i) for i in found]
        return self._bytes_of(found)


class Detokenizer:
    """Turns tokens into text one at a time; never returns part of a character.

    The results of all calls of `push` and of `finish`, joined, are `Tokenizer.decode` of
    all the tokens. The cost of a token does not depend on the length of the text.

    Args:
      pieces: the bytes of each token.
      skip: ids that are left out.
      continues: whether the text continues an earlier one, so that a space at its start
        belongs to it.
    """

    def __init__(
        self,
        pieces: Pieces,
        *,
        skip: Collection[int] = frozenset(),
        continues: bool = False,
    ):
        self._pieces = pieces
        self._skip = skip
        self._strip_at_start = 0 if continues else pieces.strip
        self._reset()

    def push(self, token: int) -> str:
        """Add one token and return the characters that are complete now.

        Args:
          token: its id. An id without a text, such as one that pads a vocabulary to a
            round size, adds nothing.

        Returns:
          Text that no later token can change; often empty inside a character.
        """
        token = check.token_id("Detokenizer.push", "token", token)
        if token in self._skip:
            return ""
        return self.push_bytes(self._pieces[token])

    def push_bytes(self, data: bytes) -> str:
        """Add the bytes of some tokens and return the characters complete now."""
        return self._stripped(self._decoder.decode(data))

    def finish(self) -> str:
        """End the text: return U+FFFD for an incomplete character, else "".

        The next token starts a new text.
        """
        rest = self._stripped(self._decoder.decode(b"", final=True))
        self._reset()
        return rest

    def _reset(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = self._strip_at_start

    def _stripped(self, text: str) -> str:
        while self._strip and text:
            if text[0] != " ":
                self._strip = 0
                break
            self._strip -= 1
            text = text[1:]
        return text
