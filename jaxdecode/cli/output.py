"""Texts go to standard output, remarks about them to standard error."""

import io
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path


def show(*parts: Iterable[str], kept: list[str] | None = None) -> None:
    """Print a text while it is written, then end the line.

    Args:
      *parts: the text, piece by piece.
      kept: receives the pieces that were printed, also when the stream is stopped.
    """
    last = ""
    for last in itertools.chain(*parts):
        write(last)
        if kept is not None:
            kept.append(last)
    if not last.endswith("\n"):
        write("\n")


def write(text: str) -> None:
    """Print a piece of text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(line: str) -> None:
    """Print a remark on standard error, so that it does not mix with the text."""
    print(line, file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether standard output is a terminal and so has a width."""
    return sys.stdout.isatty()


def read_text(what: str, given: str) -> str:
    """Return an argument, or the text on standard input if it is "-".

    Line ends are made "\\n", a byte order mark is left out, and one line end at the end
    is removed: `echo` adds it.

    Raises:
      ValueError: if there is no text, or standard input is not UTF-8.
    """
    if given == "-":
        try:
            given = sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"the {what} on standard input is not UTF-8") from error
        given = given.replace("\r\n", "\n").removesuffix("\n")
    if not given:
        raise ValueError(f"the {what} must not be empty")
    return given


def tolerate_narrow_encodings() -> None:
    """Print a question mark for a character that the output's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def check_folder(what: str, path: str) -> None:
    """Refuse, before anything runs, a file that could not be written.

    Raises:
      FileNotFoundError: if its folder does not exist.
      IsADirectoryError: if it is a folder itself.
    """
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{what}: {folder}: no such folder.")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{what}: {path} is a folder.")
