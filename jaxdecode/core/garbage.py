"""No collection of garbage while objects are made that stay."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def not_collected() -> Iterator[None]:
    """Collect nothing meanwhile.

    Importing JAX and loading a model make some million objects that stay. Going through
    them again and again takes 0.2 s of a start, and a third of the time of a trace.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
