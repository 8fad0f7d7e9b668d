"""The outputs of all shards, put together in the order of the input."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from jaxdecode.engine.batch import answers
from jaxdecode.engine.batch.entries import Names, entries
from jaxdecode.engine.batch.files import STANDARD, LineWriter, kept_lines, read_lines
from jaxdecode.engine.batch.lines import LineError, parse


class Incomplete(ValueError):
    """The parts are not the whole."""


def merge(
    target: str,
    parts: Sequence[str],
    *,
    source: str | None = None,
    allow_changes: bool = False,
) -> int:
    """Write the answers of shards 0, 1, ... to one file, in the order of the input.

    The lines are those that a run without shards writes, byte for byte. `target` is put
    in place when it is complete.

    Args:
      target: the file to write (also .gz, .zst), or `-`.
      parts: the outputs of all shards, in their order.
      source: the input, to check that every line is answered; None checks only that the
        parts fit each other.
      allow_changes: whether answers of different settings may be put together.

    Returns:
      The number of answers.

    Raises:
      Incomplete: if a part is torn, misses answers or belongs to another run.
      OSError: if a file cannot be read or written.
    """
    if not parts:
        raise Incomplete("merge: there must be at least one part, got none.")
    temporary = target if target == STANDARD else _beside(target)
    writer = LineWriter(temporary)
    try:
        count = 0
        for line in _checked(parts, source, allow_changes):
            writer.write(line)
            count += 1
        writer.close()
    except BaseException:
        writer.close()
        if temporary != STANDARD:
            os.remove(temporary)
        raise
    if temporary != STANDARD:
        os.replace(temporary, target)
    return count


def _beside(target: str) -> str:
    """Return a new name next to a file, with its ending."""
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{os.getpid()}.{name}")
    if os.path.exists(temporary):
        os.remove(temporary)
    return temporary


def _checked(
    parts: Sequence[str], source: str | None, allow_changes: bool
) -> Iterator[bytes]:
    wanted = None if source is None else entries(read_lines(source))
    names, made = Names(), None
    for part, number, line in _in_turn(parts):
        where = f"merge: {part}, line {number}"
        found = _parsed(where, line)
        name = answers.id_of(found)
        if wanted is not None:
            entry = next(wanted, None)
            if entry is None:
                raise Incomplete(f"{where}: the input has no such line.")
            if entry.id != name:
                raise Incomplete(
                    f"{where}: must answer {entry.id!r:.80}, got {name!r:.80}."
                )
        if name is not None and not names.is_new(name):
            raise Incomplete(f"{where}: {name!r:.80} is answered twice.")
        mine = answers.fingerprint_of(found)
        made = mine if made is None else made
        if mine not in (None, made) and not allow_changes:
            raise Incomplete(
                f"{where}: made with other settings ({mine}, before {made}); "
                "--allow-changes merges all the same."
            )
        yield line
    entry = None if wanted is None else next(wanted, None)
    if entry is not None:
        raise Incomplete(
            f"merge: line {entry.number} of the input is not answered ({entry.id!r:.80})."
        )


def _in_turn(parts: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
    """Yield a line of each part in turn; at the end of one, all must end."""
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(closing(kept_lines(part))) for part in parts]
        number = turn = 0
        for index in itertools.count():
            number, turn = divmod(index, len(parts))
            line, whole = next(sources[turn], (None, True))
            if line is None:
                break
            if not whole:
                raise Incomplete(f"merge: {parts[turn]} is torn; run that shard again.")
            yield parts[turn], number + 1, line
        for part, source in zip(parts, sources, strict=True):
            if next(source, None) is not None:
                raise Incomplete(
                    f"merge: {parts[turn]} ends before line {number + 1}, but {part} "
                    "goes on; run the shard that ends first again, and give the parts "
                    "in the order of the shards."
                )


def _parsed(where: str, line: bytes) -> dict[str, Any]:
    try:
        return parse(line)
    except LineError as error:
        raise Incomplete(f"{where}: not an answer ({error}).") from None
