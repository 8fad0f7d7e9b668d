"""How everything here is measured: interleaved rounds, ratios per round, one JSON line.

A shared machine drifts, so variants run in turn (A B A B ...) and are compared within a
round; times are medians, with the spread beside them. Compilation is timed apart.
"""

import concurrent.futures
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass
class Timings:
    """Seconds of each variant, one entry per round."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Return the median seconds of a variant."""
        return float(np.median(self.seconds[name]))

    def spread(self, name: str) -> tuple[float, float]:
        """Return the quartiles of a variant."""
        low, high = np.quantile(self.seconds[name], [0.25, 0.75])
        return float(low), float(high)

    def ratio(self, slow: str, fast: str) -> float:
        """Return the median over rounds of how many times faster `fast` was."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return float(np.median([a / b for a, b in pairs]))


def interleave(variants: dict[str, Callable[[], Any]], rounds: int) -> Timings:
    """Run every variant once per round, in turn, after one warm-up round.

    Args:
      variants: functions without arguments that return when their work is done.
      rounds: how many rounds count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for index in range(rounds):
        names = list(variants)
        for name in names[index % len(names) :] + names[: index % len(names)]:
            begin = time.perf_counter()
            variants[name]()
            seconds[name].append(time.perf_counter() - begin)
    return Timings(seconds)


def bandwidth(megabytes: int = 1024, rounds: int = 7) -> float:
    """Return bytes per second of memory traffic, the best of a few rounds.

    On CPU every core reads its share (a dot product of a vector with itself); elsewhere
    the device copies, which moves each byte twice.
    """
    if jax.default_backend() == "cpu":
        return _reading(megabytes, rounds)
    words = jax.numpy.ones((megabytes << 18,), jax.numpy.float32)
    copy = jax.jit(lambda x: x + 1)
    jax.block_until_ready(copy(words))
    best = _best(lambda: jax.block_until_ready(copy(words)), rounds)
    return 2 * (megabytes << 20) / best


def _reading(megabytes: int, rounds: int) -> float:
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


def machine() -> dict[str, Any]:
    """Return what a number needs beside it: the machine, the versions, the day."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
    }


def report(name: str, rows: list[dict[str, Any]], *, save: bool = True, **extra: Any):
    """Print rows as a table, then one JSON document as the last line; keep it too."""
    print(table(rows))
    document = {"benchmark": name, "machine": machine(), **extra, "rows": rows}
    line = json.dumps(document)
    if save:
        RESULTS.mkdir(exist_ok=True)
        device = "cpu" if jax.default_backend() == "cpu" else _slug(jax.devices()[0])
        path = RESULTS / f"{name}-{device}.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
    print(line)


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows of equal keys as a Markdown table."""
    if not rows:
        return "(nothing was measured)"
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [
        "| " + " | ".join(_show(row.get(n)) for n in names) + " |" for row in rows
    ]
    return "\n".join(lines)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value)


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def _slug(device: jax.Device) -> str:
    return device.device_kind.lower().replace(" ", "-")
