"""The lines of an input, one after another: numbered, named, and each id once.

Memory does not grow with the input: the ids that occurred lie in a temporary database,
which the system keeps on disk when it grows.
"""

import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from jaxdecode.engine.batch.lines import LineError, parse
from jaxdecode.engine.batch.requests import id_of, is_envelope


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of input.

    Attributes:
      number: of the line in its file, from 1.
      index: of the line among those that are not blank, from 0.
      id: its name; None if it has none that can be used.
      fields: what it says; None where `error` says why not.
      error: what is wrong with it, as far as its form goes.
      envelope: whether it is an envelope.
    """

    number: int
    index: int
    id: Any
    fields: dict[str, Any] | None
    error: LineError | None = None
    envelope: bool = False


class Names:
    """The ids that occurred."""

    def __init__(self):
        # An empty name is a database of its own, on disk as soon as it is large.
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.execute("create table names (name blob primary key) without rowid")
        self._base.execute("begin")

    def is_new(self, name: str | int) -> bool:
        """Whether an id occurs for the first time; it then has occurred."""
        data = f"{type(name).__name__}:{name}".encode()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        put = self._base.execute("insert or ignore into names values (?)", (digest,))
        return put.rowcount == 1


def entries(lines: Iterable[bytes], shard: tuple[int, int] = (0, 1)) -> Iterator[Entry]:
    """Yield the entries of one shard of an input; blank lines are none.

    Args:
      lines: the lines of the whole input.
      shard: (i, n): the lines whose index leaves i when divided by n.
    """
    names, index = Names(), -1
    for number, data in enumerate(lines, 1):
        if not data.strip():
            continue
        index += 1
        # Every shard reads all lines, so that of two equal ids all refuse the later.
        entry = _entry(number, index, data, names)
        if index % shard[1] == shard[0]:
            yield entry


def _entry(number: int, index: int, data: bytes, names: Names) -> Entry:
    try:
        fields = parse(data)
    except LineError as error:
        return Entry(number, index, None, None, error)
    envelope = is_envelope(fields)
    try:
        name = id_of(fields, index)
    except LineError as error:
        return Entry(number, index, None, None, error, envelope)
    if not names.is_new(name):
        error = LineError("duplicate_id", f"an id must occur once, got {name!r:.200}")
        return Entry(number, index, None, None, error, envelope)
    return Entry(number, index, name, fields, None, envelope)
