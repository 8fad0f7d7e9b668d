"""Whether another process still runs."""

import os
import time


def ends_soon(process, seconds=5.0):
    """Whether a process is gone within some seconds; the system needs a moment."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
