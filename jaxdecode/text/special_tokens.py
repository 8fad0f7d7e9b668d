"""Control tokens, and where they stand in a text.

A vocabulary from a file that is not trusted may have a hundred thousand of them. A
regular expression would try them one after the other at every place of a text; here a
place costs one look-up for each length that a token can have there.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEAD = 2  # characters by which the tokens are sorted


@dataclass(frozen=True)
class Special:
    """A control token: its text, and what it matches around it.

    Attributes:
      text: its text.
      id: its token id.
      lstrip: whether it includes the white space before it.
      rstrip: whether it includes the white space after it.
      single_word: whether it must not be next to a letter, digit or underscore.
    """

    text: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


class SpecialTokens:
    """Finds control tokens in a text.

    Args:
      tokens: the tokens; of two with one text the last counts, and one without a text is
        never found.

    Attributes:
      by_text: the tokens by their texts.
    """

    def __init__(self, tokens: Iterable[Special]):
        self.by_text = {token.text: token for token in tokens if token.text}
        lengths: dict[str, set[int]] = {}
        for text in self.by_text:
            lengths.setdefault(text[:HEAD], set()).add(len(text))
        self._lengths = {
            head: sorted(found, reverse=True) for head, found in lengths.items()
        }
        letters = "".join(re.escape(c) for c in sorted({h[0] for h in lengths}))
        self._first = re.compile(f"[{letters}]" if letters else "(?!)")

    def find(self, text: str) -> Iterator[tuple[int, int, Special]]:
        """Yield begin, end and token, from left to right and the longest first.

        White space that belongs to a token is between its begin and its end.
        """
        done, at = 0, 0
        while place := self._first.search(text, at):
            at = place.start()
            token = next(self._at(text, at), None)
            if token is None:
                at += 1
                continue
            begin, end = at, at + len(token.text)
            while token.lstrip and begin > done and text[begin - 1].isspace():
                begin -= 1
            while token.rstrip and end < len(text) and text[end].isspace():
                end += 1
            yield begin, end, token
            done = at = end

    def starts(self, text: str) -> list[int]:
        """Return every place at which a control token begins, white space aside."""
        places = (place.start() for place in self._first.finditer(text))
        return [at for at in places if next(self._at(text, at), None)]

    def _at(self, text: str, at: int) -> Iterator[Special]:
        """Yield the tokens that stand at one place of a text, the longest first."""
        for size in range(HEAD, 0, -1):
            for length in self._lengths.get(text[at : at + size], ()):
                token = self.by_text.get(text[at : at + length])
                if token is not None and not (
                    token.single_word and _touches(text, at, at + length)
                ):
                    yield token


def _touches(text: str, begin: int, end: int) -> bool:
    """Whether a letter, digit or underscore stands next to a part of a text."""
    before, after = text[begin - 1 : begin] if begin else "", text[end : end + 1]
    return any(c == "_" or c.isalnum() for c in (before, after))
