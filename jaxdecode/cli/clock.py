"""How long this process has been running, interpreter start included."""

import os
import time

_LOADED = time.perf_counter()
_LONGEST_START = (
    60.0  # a larger figure means that the two clocks do not belong together
)


def since_start() -> float:
    """Return seconds since the process was started; 10 ms are the resolution.

    Where the system does not tell, seconds since this module was loaded.
    """
    known = time.perf_counter() - _LOADED
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, IndexError, ValueError):
        return known
    return age if known <= age <= known + _LONGEST_START else known
