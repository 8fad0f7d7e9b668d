"""The rows of one structure, and who writes each: what the host knows of a pool.

A look at the rows costs about as much as a step of a small model, and a row that has
ended is idle until the next one. So while requests wait for a slot, a chunk ends with
the first row whose budget ends, but has at least a quarter of its steps.
"""

import numpy as np

from jaxdecode.decode.rows import Rows
from jaxdecode.engine.job import Job
from jaxdecode.engine.writing import RowWriter

LEAST = 4  # a chunk that ends early has at least this part of its steps


class Pool:
    """Rows on the device, and the jobs in its slots.

    Args:
      rows: all of them have ended.
      slots: how many they are.
    """

    def __init__(self, rows: Rows, slots: int):
        self.rows = rows
        self.owners: list[tuple[Job, RowWriter] | None] = [None] * slots
        self.left = np.zeros((slots,), int)  # tokens that a budget still allows
        self.dropped = np.zeros((slots,), bool)  # ended by the host, not by the device
        self.last_end: float | None = None  # of its last chunk

    @property
    def is_running(self) -> bool:
        """Whether any slot has an owner."""
        return any(self.owners)

    @property
    def owned(self) -> np.ndarray:
        """Which slots have an owner, bool [slots]."""
        return np.asarray([owner is not None for owner in self.owners])

    def put(self, slot: int, job: Job, writer: RowWriter) -> None:
        """Give a slot to a sample of a job."""
        self.owners[slot], self.dropped[slot] = (job, writer), False
        self.left[slot] = job.asked.budget

    def steps(self, chunk: int, *, is_awaited: bool) -> int:
        """Return how many steps the next chunk has.

        Args:
          chunk: the most.
          is_awaited: whether a request waits for a slot.
        """
        if not is_awaited:
            return chunk
        first = int(self.left[self.owned].min(initial=chunk))
        return min(chunk, max(first, chunk // LEAST, 1))
