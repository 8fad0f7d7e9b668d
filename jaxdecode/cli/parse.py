"""From an argument list to the options of one command, with errors of one line.

Knows tyro and how it prints an error; knows none of the commands.
"""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_RULE = re.compile(r"^[─-]+$")
_HINTS = ("Perhaps you meant", "Available subcommands")


class UsageError(ValueError):
    """The command line could not be understood."""


def parse(kind: Any, argv: Sequence[str], *, prog: str, description: str) -> Any:
    """Return the options in `argv` as an object of `kind`.

    Args:
      kind: a dataclass, or a union of dataclasses marked as subcommands.
      argv: the arguments, without the program's name.
      prog: the program's name, for usage lines.
      description: the first paragraph of the help.

    Raises:
      UsageError: if the arguments do not fit; its message is one line.
      SystemExit: with code 0, after help was printed.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                kind,
                prog=prog,
                description=description,
                args=list(argv),
                config=(
                    tyro.conf.FlagCreatePairsOff,
                    tyro.conf.PositionalMetavarFromFieldName,
                ),
            )
    except SystemExit as ended:
        if not ended.code:
            raise
        raise UsageError(message_in(errors.getvalue())) from None


def message_in(box: str) -> str:
    """Return the message in a framed error of tyro, as one line without the help."""
    sections: list[list[str]] = [[]]
    for line in _COLOURS.sub("", box).splitlines()[1:-1]:
        row = line[1:-1].rstrip()[1:]  # between the frame's bars
        if _RULE.match(row):
            sections.append([])
        elif not row.startswith(" " * 8):  # only an option's help is indented so far
            sections[-1].append(row.strip())
    kept = [sections[0], *(s for s in sections[1:] if s and s[0].startswith(_HINTS))]
    text = ". ".join(" ".join(rows).rstrip(".") for rows in kept)
    return text or "the arguments could not be understood"
