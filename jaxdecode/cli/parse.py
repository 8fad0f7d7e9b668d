"""From an argument list to the options of one command, with errors of one line.

Knows tyro and how it prints an error; knows none of the commands.
"""

import contextlib
import difflib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import tyro

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_OPTION = re.compile(r"--?[A-Za-z][\w-]*")
_IN_HELP = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
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

    def read(arguments: list[str]) -> Any:
        return tyro.cli(
            kind,
            prog=prog,
            description=description,
            args=arguments,
            config=(
                tyro.conf.FlagCreatePairsOff,
                tyro.conf.PositionalMetavarFromFieldName,
            ),
        )

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return read(list(argv))
    except SystemExit as ended:
        if not ended.code:
            raise
        message = message_in(errors.getvalue())
        if message.startswith("Missing"):  # an option it took for something else?
            message = unknown_option(argv, read) or message
        raise UsageError(message) from None


def unknown_option(argv: Sequence[str], read: Callable[[list[str]], Any]) -> str | None:
    """Return the message for the first option that a command does not have, or None.

    tyro complains of a missing value first, where an option before it is misspelled.

    Args:
      argv: the arguments.
      read: parses arguments; its help names the options.
    """
    words = list(argv[: argv.index("--")] if "--" in argv else argv)
    known = _known_options(words[:1], read) | _known_options(words[:2], read)
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if not _OPTION.fullmatch(name) or name in known:
            continue
        near = difflib.get_close_matches(name, sorted(known), 1)
        hint = f". Perhaps you meant: {near[0]}" if near else ""
        return f"Unrecognized options: {word}{hint}"
    return None


def _known_options(command: list[str], read: Callable[[list[str]], Any]) -> set[str]:
    if any(word.startswith("-") for word in command):
        return set()
    shown = io.StringIO()
    with (
        contextlib.suppress(SystemExit),
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        read([*command, "--help"])
    return set(_IN_HELP.findall(_COLOURS.sub("", shown.getvalue())))


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
