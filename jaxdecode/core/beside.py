"""A program that works for this process, and never outlives it.

It is not in the terminal's group: Ctrl-C is for whoever waits, who may be busy with
something else. When this process ends, so does the program, with what it has started;
who ends it by `os._exit` calls `end_all` before.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import threading

_STARTING = threading.Lock()
_WAIT = 1.0  # seconds; starting a program takes some milliseconds
_running: list[subprocess.Popen] = []


def run_beside(command: list[str], seconds_max: float) -> tuple[int, str]:
    """Run a program to its end; return its exit status and what it says of errors.

    Args:
      command: the program and its arguments.
      seconds_max: how long it may take.

    Raises:
      subprocess.TimeoutExpired: if it takes longer.
      OSError: if it cannot be started.
    """
    with _STARTING:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
        _running.append(process)
    with process:
        try:
            _, said = process.communicate(timeout=seconds_max)
        except BaseException:
            _end(process)
            raise
        finally:
            _running.remove(process)
    return process.returncode, said


@atexit.register
def end_all() -> None:
    """End all programs; none is started any more."""
    # For good. No longer than a moment: this may be a signal's work while it is held.
    _STARTING.acquire(timeout=_WAIT)
    for process in list(_running):
        _end(process)


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
