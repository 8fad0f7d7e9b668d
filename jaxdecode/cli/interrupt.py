"""Ctrl-C while Python cannot answer: inside a compilation, a long read, a large copy.

Python runs signal handlers between its own instructions only, so a compilation of ten
seconds would sit out a Ctrl-C. A thread hears of the signal at once through Python's
wakeup pipe, gives Python a moment to answer, and then ends the process itself.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from jaxdecode.cli.errors import INTERRUPTED

GRACE = 0.7  # seconds; a decode step, after which Python answers, is shorter
RETRY = 0.02  # seconds


@contextlib.contextmanager
def leave_promptly() -> Iterator[None]:
    """End the process if a Ctrl-C comes while the body cannot react to it.

    If Python can react, KeyboardInterrupt is raised as usual and nothing else happens.
    Works in the main thread only; elsewhere it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    answered = threading.Event()

    def answer(number, frame):
        answered.set()
        if _would_be_lost(frame):
            threading.Timer(RETRY, signal.raise_signal, [number]).start()
        else:
            signal.default_int_handler(number, frame)

    listen, ring = os.pipe()
    os.set_blocking(ring, False)
    handler = signal.signal(signal.SIGINT, answer)
    wakeup = signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(listen, answered), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        answered.set()
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, handler)
        os.close(ring)
        watcher.join()
        os.close(listen)


@contextlib.contextmanager
def leave_at_once() -> Iterator[None]:
    """End the process on a Ctrl-C in the body, which must have nothing to tidy up.

    For imports, as an extension module that is interrupted while it starts prints a
    traceback of its own and raises ImportError; and for a text that is being written.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, lambda number, frame: _leave())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def answer_late() -> Iterator[None]:
    """Let a Ctrl-C in the body wait until Python can answer it, however long."""
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)


def _watch(listen: int, answered: threading.Event) -> None:
    while number := os.read(listen, 1):  # empty once the other end is closed
        if number[0] == signal.SIGINT and not answered.wait(GRACE):
            _leave()


def _would_be_lost(frame: FrameType | None) -> bool:
    """Say whether an exception raised in a frame would be printed and forgotten.

    So are those of a callback of the garbage collector, of which JAX has one.
    """
    return frame is not None and frame.f_code.co_name == "_xla_gc_callback"


def _leave() -> NoReturn:
    os.write(2, b"\n")
    os._exit(INTERRUPTED)
