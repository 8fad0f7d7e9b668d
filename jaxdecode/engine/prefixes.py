"""Beginnings that several prompts share, and what was kept of them: plain Python.

Prompts are read in blocks of equal size from the start, whoever reads them. So where two
prompts begin with the same blocks, one may go on from what the other left at the end of
a block, and computes exactly what it would have computed alone. A beginning is kept as
soon as a second prompt with it is known.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

SEEN_MAX = 4096  # beginnings that are remembered by their digest


def digests(tokens: Sequence[int], block: int, count: int) -> tuple[bytes, ...]:
    """Return a digest of each beginning of 1, 2, ... `count` blocks."""
    found, running = [], hashlib.blake2b(digest_size=16)
    for index in range(count):
        part = tokens[index * block : (index + 1) * block]
        running.update(b"".join(int(token).to_bytes(4, "little") for token in part))
        found.append(running.digest())
    return tuple(found)


class Prefixes:
    """What was kept of beginnings, the least recently used given up first.

    Args:
      room: how many beginnings may be kept, >= 0.
    """

    def __init__(self, room: int):
        self._room = room
        self._kept: OrderedDict[bytes, Any] = OrderedDict()
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        self.reused_blocks = 0

    def note(self, found: Sequence[bytes]) -> None:
        """Learn of a prompt with these beginnings."""
        for digest in found:
            self._seen[digest] = self._seen.pop(digest, 0) + 1
        while len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    def longest(self, found: Sequence[bytes]) -> tuple[int, Any]:
        """Return the blocks of the longest beginning that was kept, and what was kept."""
        for count in range(len(found), 0, -1):
            kept = self._kept.get(found[count - 1])
            if kept is not None:
                self._kept.move_to_end(found[count - 1])
                self.reused_blocks += count
                return count, kept
        return 0, None

    def worth_keeping(self, found: Sequence[bytes]) -> int:
        """Return the blocks of the longest beginning that another prompt has, too."""
        for count in range(len(found), 0, -1):
            if self._room and self._seen.get(found[count - 1], 0) > 1:
                return 0 if found[count - 1] in self._kept else count
        return 0

    def keep(self, digest: bytes, value: Any) -> None:
        """Keep what belongs to a beginning."""
        self._kept[digest] = value
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._seen.clear()
        self.reused_blocks = 0
