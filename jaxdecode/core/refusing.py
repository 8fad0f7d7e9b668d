"""What other libraries raise for a bad file becomes the error that we document.

A reader of files that are not trusted checks what it can, and says what is wrong. What is
left fails in a library, in an arithmetic of ours, or in Rust, whose panics are not even
an `Exception`: all of that is a bad file too, and a caller has one error to expect.
"""

import contextlib
from collections.abc import Iterator

PANIC = "PanicException"  # of pyo3, which gives it no importable place
SHOWN_MAX = 300


@contextlib.contextmanager
def refusing(error: type[ValueError], what: str) -> Iterator[None]:
    """Raise `error` in place of whatever else a block raises.

    An `OSError` (the disk, not the file's contents), a `MemoryError`, and what is no
    error at all, such as Ctrl-C, pass.

    Args:
      error: what to raise, such as `CheckpointError`.
      what: which file or argument it is about, for the message.
    """
    try:
        yield
    except (error, OSError, MemoryError):
        raise
    except Exception as reason:
        raise error(f"{what}: {_told(reason)}") from reason
    except BaseException as reason:
        if type(reason).__name__ != PANIC:
            raise
        raise error(f"{what}: {_told(reason)}") from reason


def _told(reason: BaseException) -> str:
    """Return one short line: a message may hold a whole damaged file."""
    line = " ".join(str(reason).split())
    line = line if len(line) <= SHOWN_MAX else f"{line[:SHOWN_MAX]}..."
    if isinstance(reason, (ValueError, TypeError)) and line:
        return line
    return f"{type(reason).__name__}: {line}"
