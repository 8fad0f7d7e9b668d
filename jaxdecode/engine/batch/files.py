"""Reading lines from a file, writing lines to one: plain, `.gz`, `.zst`, or `-`.

A line is on its way to the disk as soon as it is written. Of a plain file, at most the
last line can be torn; a compressed one is a row of small archives, of which the last can
be. `kept_lines` gives what is whole.
"""

import contextlib
import gzip
import io
import os
import sys
import time
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxdecode.core.extras import needs
from jaxdecode.engine.batch.lines import SIZE_MAX

STANDARD = "-"
SYNC_SECONDS = 1.0  # between two times at which the disk is asked to have everything
ARCHIVE_SECONDS = 1.0  # the longest that a compressed line waits for its archive
ARCHIVE_BYTES = 1 << 20  # and how many bytes do


def compression(path: str) -> str | None:
    """Return "gz", "zst" or None for a path, after its ending."""
    ending = Path(path).suffix
    return ending[1:] if ending in (".gz", ".zst") else None


def read_lines(path: str) -> Iterator[bytes]:
    """Yield the lines of a file, without their newlines; `-` is standard input.

    Of a line that is too long only a beginning is given, which is too long as well.

    Raises:
      OSError: if the file cannot be read or is no archive.
    """
    with contextlib.ExitStack() as stack:
        if path == STANDARD:
            source: Any = sys.stdin.buffer
        else:
            source = stack.enter_context(_opened(path))
        first = True
        for line in _split(source):
            yield line.removeprefix(b"\xef\xbb\xbf") if first else line
            first = False


def _split(source: Any) -> Iterator[bytes]:
    while line := source.readline(SIZE_MAX + 2):
        whole = line.endswith(b"\n")
        yield line.rstrip(b"\r\n") if whole else line
        while not whole and len(line) >= SIZE_MAX + 2:  # the rest of a long line
            line = source.readline(SIZE_MAX + 2)
            whole = line.endswith(b"\n")


def kept_lines(path: str) -> Generator[tuple[bytes, bool]]:
    """Yield the lines that an earlier run wrote, and whether each is whole.

    Only the last can be torn. An archive that breaks off ends the lines there.
    """
    with _opened(path) as source:
        while True:
            try:
                line = source.readline()
            except (EOFError, OSError, zlib.error) as error:
                if compression(path) is None:
                    raise
                if not isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)):
                    raise
                return
            except Exception as error:  # zstandard's own
                if type(error).__name__ != "ZstdError":
                    raise
                return
            if not line:
                return
            yield line, line.endswith(b"\n")


def _opened(path: str) -> Any:
    kind = compression(path)
    if kind == "gz":
        return gzip.open(path, "rb")
    if kind == "zst":
        with needs("a .zst file"):
            import zstandard
        file = open(path, "rb")  # noqa: SIM115 - closed with the reader
        reader = zstandard.ZstdDecompressor().stream_reader(
            file, read_across_frames=True, closefd=True
        )
        return io.BufferedReader(reader)
    return open(path, "rb")


class LineWriter:
    """Appends lines to a file, or prints them.

    Args:
      path: the file, created if it is not there; `-` is standard output.
    """

    def __init__(self, path: str):
        self._kind = None if path == STANDARD else compression(path)
        if path == STANDARD:
            self._file: BinaryIO = sys.stdout.buffer
        else:
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - see close
        self._lasts = path != STANDARD and os.path.isfile(path)
        self._held: list[bytes] = []
        self._since = self._synced = time.monotonic()

    def lock(self) -> None:
        """Refuse a file that another process writes.

        Raises:
          ValueError: if another process has locked it.
        """
        if not self._lasts:
            return
        with contextlib.suppress(ImportError):  # where there are no such locks
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process writes {self._file.name}; wait until it ends."
                ) from None

    def cut(self, size: int) -> None:
        """Shorten a plain file to its first bytes."""
        self._file.truncate(size)

    def write(self, line: bytes) -> None:
        """Append a line."""
        now = time.monotonic()
        if self._kind is None:
            _write_all(self._file, line)
            if not self._lasts:
                self._file.flush()
        else:
            self._since = self._since if self._held else now
            self._held.append(line)
            size = sum(map(len, self._held))
            if size >= ARCHIVE_BYTES or now - self._since >= ARCHIVE_SECONDS:
                self._archive()
        if self._lasts and now - self._synced >= SYNC_SECONDS:
            self._synced = now
            os.fsync(self._file.fileno())

    def settle(self) -> None:
        """Write what is held, and wait until the disk has everything."""
        self._archive()
        if self._lasts:
            os.fsync(self._file.fileno())
        else:
            self._file.flush()

    def close(self) -> None:
        """Settle, and write no more, whether the disk takes what is held or not."""
        try:
            self.settle()
        finally:
            if self._lasts:
                self._file.close()

    def _archive(self) -> None:
        """Write the held lines as an archive of their own."""
        if not self._held:
            return
        data, self._held = b"".join(self._held), []
        _write_all(self._file, compress(data, self._kind))


def compress(data: bytes, kind: str | None) -> bytes:
    """Return bytes as an archive; equal ones give equal archives."""
    if kind == "gz":
        return gzip.compress(data, mtime=0)
    with needs("a .zst file"):
        import zstandard
    return zstandard.ZstdCompressor().compress(data)


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write all bytes; an unbuffered file may take some of them only."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]
