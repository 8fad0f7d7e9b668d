"""Interleaved rounds: how to compare variants on a machine whose speed drifts.

Variants run in turn (A B A B ...) and are compared within a round; times are medians with
their quartiles. The first run of each, which compiles, does not count.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass
class Timings:
    """Seconds of each variant, one number per round."""

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

    def between(self, short: str, long: str) -> float:
        """Return the median over rounds of the extra seconds of `long`."""
        pairs = zip(self.seconds[long], self.seconds[short], strict=True)
        return float(np.median([a - b for a, b in pairs]))


def interleave(variants: dict[str, Callable[[], Any]], rounds: int) -> Timings:
    """Run every variant once per round, in turn, after one warm-up round.

    Args:
      variants: functions without arguments that return when their work is done.
      rounds: number of rounds that count.
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
