"""The entry point: finds the command, runs it, and turns every outcome into an exit code.

Each command is one file with a dataclass of options and a function `run`. Commands that
need JAX import it when they run.
"""

import contextlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

from jaxdecode.cli import errors, interrupt
from jaxdecode.core import garbage
from jaxdecode.core.extras import needs

DESCRIPTION = """Text from language models in JAX.

The same model, prompt, options and seed give the same text.
`--version` prints the version."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
      argv: the arguments without the program's name; None takes the process's own.

    Returns:
      0, or 2 for an error that the user can correct, 1 for a bug of ours, 130 after
      Ctrl-C, 141 when the reader of the output went away.
    """
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except BaseException as error:
        code = _exit_code(error)
    if argv is None:  # the process is ending: a Ctrl-C would only add a traceback
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if argv is None and code in (errors.INTERRUPTED, errors.BROKEN_PIPE):
        # A computation may still be running, and the runtime may crash if the
        # interpreter shuts down meanwhile. Nothing is left to clean up.
        interrupt.leave(code)
    return code


def _run(argv: list[str]) -> int:
    if argv[:1] in (["--version"], ["-V"]):
        return _print_version()
    # Imported here, so that a Ctrl-C during the import ends like any other.
    with needs("the command line"), garbage.not_collected():
        from jaxdecode.cli import (
            batch,
            bench,
            chat,
            generate,
            inspect,
            merge,
            models,
            output,
            serve,
            sweep,
        )

    output.tolerate_narrow_encodings()
    kind = generate.Command | chat.Command | inspect.Command | batch.Command
    kind |= merge.Command | sweep.Command | bench.Command | models.Command
    kind |= serve.Command
    if argv[:2] == ["batch", "merge"]:
        argv = ["batch-merge", *argv[2:]]
    if not argv:
        return _show_help(kind)
    runs = {
        generate.Generate: generate.run,
        chat.Chat: chat.run,
        inspect.Inspect: inspect.run,
        batch.Batch: batch.run,
        merge.Merge: merge.run,
        bench.Bench: bench.run,
        sweep.Sweep: sweep.run,
        models.Models: models.run,
        serve.Serve: serve.run,
    }
    command = _parse(kind, argv)
    with interrupt.exit_promptly():
        return runs[type(command)](command)


def _parse(kind: Any, argv: list[str]) -> Any:
    from jaxdecode.cli.parse import parse

    return parse(kind, argv, prog="jaxdecode", description=DESCRIPTION)


def _show_help(kind: Any) -> int:
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
        _parse(kind, ["--help"])
    return errors.USER_ERROR


def _print_version() -> int:
    from jaxdecode import __version__

    print(f"jaxdecode {__version__}")
    return 0


def _exit_code(error: BaseException) -> int:
    """Print what ended the program, and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if errors.wants_traceback() and not isinstance(error, BrokenPipeError):
        raise error
    code, line = errors.explain(error)
    if code != errors.BROKEN_PIPE:
        errors.print_line(line)
    return code
