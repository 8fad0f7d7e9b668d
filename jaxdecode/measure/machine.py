"""The machine a number was measured on, and how many bytes a second it can read."""

import concurrent.futures
import datetime
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdecode.core.platform import backend
from jaxdecode.native import why_no_token_kernel, why_unavailable


def bandwidth(megabytes: int = 1024, rounds: int = 7) -> float:
    """Return bytes per second of memory traffic, the best of a few rounds.

    On CPU every core reads its part (a dot product of a vector with itself); elsewhere
    the device copies, which moves each byte twice.

    Args:
      megabytes: size of the data; more than the processor's caches hold.
      rounds: number of measurements.
    """
    if backend().kind == "cpu":
        return _read_speed(megabytes, rounds)
    words = jax.numpy.ones((megabytes << 18,), jax.numpy.float32)
    copy = jax.jit(lambda x: x + 1)
    jax.block_until_ready(copy(words))
    best = _best(lambda: jax.block_until_ready(copy(words)), rounds)
    return 2 * (megabytes << 20) / best


def machine() -> dict[str, Any]:
    """Return what must be reported with a number: machine, versions, date."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "kernels": _why_no_kernels() or "on",
        "date": datetime.date.today().isoformat(),
    }


def _why_no_kernels() -> str:
    return why_no_token_kernel() if backend().kind == "gpu" else why_unavailable()


def _read_speed(megabytes: int, rounds: int) -> float:
    cores = os.cpu_count() or 1
    parts = np.split(np.ones((megabytes << 18) // cores * cores, np.float32), cores)
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        best = _best(lambda: list(pool.map(lambda part: part.dot(part), parts)), rounds)
    return (megabytes << 20) / best


def _best(run: Callable[[], Any], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()
