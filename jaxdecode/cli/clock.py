"""How long this process has been running, interpreter start included."""

import os
import time

_LOADED = time.perf_counter()
_START_MAX = 60.0  # seconds; a longer start means that the two clocks disagree


def since_start() -> float:
    """Return seconds since the process was started, to about 10 ms.

    Where the system does not know, seconds since this module was loaded.
    """
    known = time.perf_counter() - _LOADED
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, IndexError, ValueError):
        return known
    return age if known <= age <= known + _START_MAX else known
