"""Going on where an earlier run stopped, at whatever byte that was.

Answers lie in the order of the lines that they answer, so the earlier run is a number of
whole lines. Each is compared with the line of input that it must belong to; a torn one
at the end is cut off. A file that is something else is refused and left as it is.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxdecode.engine.batch import answers
from jaxdecode.engine.batch.files import STANDARD, LineWriter, compression, kept_lines
from jaxdecode.engine.batch.lines import LineError, could_begin, parse

ASK = "Another file name, --restart, or the same input and settings go on."


class OtherRun(ValueError):
    """The output belongs to another input, other settings, or is no output at all."""


@contextlib.contextmanager
def resumed(
    path: str,
    expected: Iterator[Any],
    *,
    fingerprint: str,
    restart: bool,
    allow_changes: bool,
    seen: Callable[[dict[str, Any]], None] = lambda found: None,
) -> Iterator[LineWriter]:
    """Open an output, keeping what an earlier run has answered.

    Args:
      path: the file, or `-`.
      expected: the ids of the answers, in order; as many are taken as were answered.
      fingerprint: of the settings of this run.
      restart: whether to throw away what is there.
      allow_changes: whether answers with other settings may stay.
      seen: called with each answer that is kept.

    Raises:
      OtherRun: if what is there cannot be gone on with.
    """
    writer = LineWriter(path)
    try:
        writer.lock()
        there = path != STANDARD and os.path.isfile(path) and os.path.getsize(path)
        if there and restart:
            writer.cut(0)
        elif there:
            check = _Check(path, expected, fingerprint, allow_changes, seen)
            writer = _repaired(path, writer, check)
        yield writer
    finally:
        writer.close()


class _Check:
    """Compares answers with what they must be."""

    def __init__(self, path, expected, fingerprint, allow_changes, seen):
        self._path, self._expected, self._fingerprint = path, expected, fingerprint
        self._allow_changes, self._seen, self._number = allow_changes, seen, 0

    def __call__(self, line: bytes) -> None:
        """Check the next whole line.

        Raises:
          OtherRun: if it is not the answer to the next line of input.
        """
        self._number += 1
        where = f"{self._path}, line {self._number}"
        try:
            found = parse(line)
        except LineError as error:
            raise OtherRun(f"{where}: not an answer ({error}). {ASK}") from None
        wanted = next(self._expected, _NOTHING)
        got = answers.id_of(found)
        if wanted is _NOTHING:
            raise OtherRun(f"{where}: the input has fewer lines than that. {ASK}")
        if got != wanted or type(got) is not type(wanted):
            raise OtherRun(
                f"{where}: the answer to {got!r:.80}, but the input asks for "
                f"{wanted!r:.80} there. {ASK}"
            )
        made = answers.fingerprint_of(found)
        if made not in (None, self._fingerprint) and not self._allow_changes:
            raise OtherRun(
                f"{where}: made with other settings ({made}, now "
                f"{self._fingerprint}); --allow-changes goes on all the same. {ASK}"
            )
        self._seen(found)


_NOTHING = object()


def _repaired(path: str, writer: LineWriter, check: _Check) -> LineWriter:
    """Check every whole line, and cut off what is torn."""
    if compression(path) is not None:
        return _rewritten(path, writer, check)
    size = 0
    with contextlib.closing(kept_lines(path)) as lines:
        for line, whole in lines:
            if not whole or b"\0" in line:  # zeros: a block that was never written
                _check_torn(path, line)
                break
            check(line)
            size += len(line)
    if size < os.path.getsize(path):
        writer.cut(size)
    return writer


def _rewritten(path: str, writer: LineWriter, check: _Check) -> LineWriter:
    """Write the whole lines of an archive to a new one, which takes its place."""
    new = f"{path}.part{Path(path).suffix}"
    with contextlib.suppress(FileNotFoundError):
        os.remove(new)
    copy = LineWriter(new)
    copy.lock()
    try:
        with contextlib.closing(kept_lines(path)) as lines:
            for line, whole in lines:
                if not whole:
                    break
                check(line)
                copy.write(line)
        copy.settle()
    except BaseException:
        with contextlib.suppress(OSError):  # the disk may be full
            copy.close()
        os.remove(new)
        raise
    os.replace(new, path)
    writer.close()
    return copy


def _check_torn(path: str, line: bytes) -> None:
    if not could_begin(line):
        raise OtherRun(f"{path}: not a file of answers. {ASK}")
