"""Standard output for text, standard error for what is said about it."""

import io
import itertools
import sys
from collections.abc import Iterable


def show(*parts: Iterable[str], kept: list[str] | None = None) -> None:
    """Print a text while it is written, then end the line.

    Args:
      *parts: the text, piece by piece.
      kept: gets the pieces that were shown, also when the stream is stopped.
    """
    last = ""
    for last in itertools.chain(*parts):
        write(last)
        if kept is not None:
            kept.append(last)
    if not last.endswith("\n"):
        write("\n")


def write(text: str) -> None:
    """Show a piece of text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(line: str) -> None:
    """Print a line about the text where it does not mix with it."""
    print(line, file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Say whether standard output has a width; a pipe has none."""
    return sys.stdout.isatty()


def read_text(what: str, given: str) -> str:
    """Return an argument, or what stands on standard input if it is "-".

    One newline at the end of standard input is dropped: `echo` adds it.

    Raises:
      ValueError: if there is no text, or standard input is not UTF-8.
    """
    if given == "-":
        try:
            given = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"the {what} on standard input is not UTF-8") from error
    if not given:
        raise ValueError(f"the {what} must not be empty")
    return given


def tolerate_narrow_encodings() -> None:
    """Print a question mark for what the terminal's encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
