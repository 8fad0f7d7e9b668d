"""The message a user reads when something goes wrong, and the exit code.

2: an error that the user can correct, 1: a bug of ours, 130: Ctrl-C, 141: the reader of
a pipe went away. Always one line; JAXDECODE_TRACEBACK=1 shows the traceback.
"""

import contextlib
import os
import sys
import traceback
from pathlib import Path

USER_ERROR = 2
OUR_ERROR = 1
INTERRUPTED = 130
BROKEN_PIPE = 141

_PACKAGE = str(Path(__file__).resolve().parents[1])


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code for an error, and the line to print."""
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE, ""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, ""
    if is_user_error(error):
        return USER_ERROR, f"jaxdecode: {_text(error)}"
    return OUR_ERROR, (
        f"jaxdecode: unexpected {type(error).__name__}: {_text(error)} "
        "(JAXDECODE_TRACEBACK=1 shows where)"
    )


def is_user_error(error: BaseException) -> bool:
    """Whether the user can correct an error.

    A refused value, a file, the network, a part that is not installed. A ValueError
    raised inside JAX or NumPy is a bug in our code; the library's own checks raise from
    the library's files.
    """
    if isinstance(error, OSError):
        return True
    return isinstance(error, (ValueError, ImportError)) and _raised_by_us(error)


def wants_traceback() -> bool:
    """Whether the environment asks for tracebacks."""
    return os.environ.get("JAXDECODE_TRACEBACK", "") not in ("", "0")


def print_line(line: str) -> None:
    """Print a line on standard error; a closed one is ignored."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _raised_by_us(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(_PACKAGE)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split()) or type(error).__name__
