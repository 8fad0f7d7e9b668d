"""Ctrl-C while Python cannot handle it: during a compilation, a long read, a large copy.

Python runs signal handlers only between its own instructions, so a compilation of ten
seconds would delay a Ctrl-C by as much. A thread is notified of the signal at once,
through Python's wakeup pipe, gives Python a moment, and then ends the process itself.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from jaxdecode.cli.errors import INTERRUPTED
from jaxdecode.core import beside

GRACE = 0.7  # seconds; longer than a decode step, after which Python handles signals
RETRY = 0.02  # seconds


@contextlib.contextmanager
def exit_promptly() -> Iterator[None]:
    """End the process if a Ctrl-C comes while Python cannot handle it in the body.

    If Python can, KeyboardInterrupt is raised as usual and nothing else happens. Works
    in the main thread only; elsewhere it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = threading.Event()

    def handle(number, frame):
        handled.set()
        if _would_be_lost(frame):
            threading.Timer(RETRY, signal.raise_signal, [number]).start()
        else:
            signal.default_int_handler(number, frame)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handler = signal.signal(signal.SIGINT, handle)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, handled), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        handled.set()
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, handler)
        os.close(writer)
        watcher.join()
        os.close(reader)


@contextlib.contextmanager
def exit_at_once() -> Iterator[None]:
    """End the process at once on a Ctrl-C in the body, which must need no clean-up.

    For imports, because an extension module interrupted while it starts prints its own
    traceback and raises ImportError; and for a text that is being written.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, lambda number, frame: _exit())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def wait_for_python() -> Iterator[None]:
    """Let a Ctrl-C in the body wait until Python can handle it, however long."""
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)


def leave(code: int) -> NoReturn:
    """End the process without the interpreter's own clean-up."""
    beside.end_all()
    os._exit(code)


def _watch(reader: int, handled: threading.Event) -> None:
    while number := os.read(reader, 1):  # empty once the other end is closed
        if number[0] == signal.SIGINT and not handled.wait(GRACE):
            _exit()


def _would_be_lost(frame: FrameType | None) -> bool:
    """Whether an exception raised in a frame would be printed and then ignored.

    That happens in a callback of the garbage collector; JAX has one.
    """
    return frame is not None and frame.f_code.co_name == "_xla_gc_callback"


def _exit() -> NoReturn:
    os.write(2, b"\n")
    leave(INTERRUPTED)
