"""What a round of the engine does: prompts are read, chunks run, tokens handed out.

    while there is a free slot, and `prefill` tokens were not read:
        read a block of the next prompt; if that was the last one, put its rows into slots
    for each pool: run `chunk` steps, push what was written, free the slots of ended rows

Knows nothing of threads: `Engine` lets one in at a time.
"""

import time
from collections.abc import Hashable

import jax
import numpy as np

from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model
from jaxdecode.core.status import Status
from jaxdecode.engine import programs
from jaxdecode.engine.job import Job
from jaxdecode.engine.pool import Pool
from jaxdecode.engine.reading import Reader, Reading
from jaxdecode.engine.scheduling import Scheduler
from jaxdecode.engine.statistics import Statistics
from jaxdecode.engine.writing import RowWriter


class Rounds:
    """The jobs that are not done, and the rows that write them.

    Args:
      model: the model.
      scheduler: who gets a slot next.
      reader: what prompts are read with.
      chunk: most steps of a pool in one round.
      prefill: prompt tokens that are read in one round, up to a block more.
      length: columns of a slot.
      platform: what the programs are compiled for.
      statistics: where tokens, steps and times are counted.

    Attributes:
      jobs: those that are not done, by their numbers.
      done: those that ended and that nobody has taken.
    """

    def __init__(
        self,
        model: Model,
        scheduler: Scheduler,
        reader: Reader,
        *,
        chunk: int,
        prefill: int,
        length: int,
        platform: Platform,
        statistics: Statistics,
    ):
        self._model, self._scheduler, self._reader = model, scheduler, reader
        self._chunk, self._prefill, self._length = chunk, prefill, length
        self._platform, self._statistics = platform, statistics
        self.jobs: dict[int, Job] = {}
        self.done: dict[int, Job] = {}
        self._readings: dict[int, Reading] = {}
        self._current: int | None = None  # the job whose prompt is being read
        self._pools: dict[Hashable, Pool] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether a job waits for a slot."""
        return self._scheduler.is_waiting

    def add(self, job: Job) -> None:
        """Let a job wait for its slots."""
        self.jobs[job.number] = job
        self._readings[job.number] = self._reader.begin(job.asked.tokens)
        self._scheduler.add(job.number, job.asked.structure, job.asked.samples)

    def run(self) -> None:
        """Do one round."""
        self._admit()
        for structure in self._scheduler.structures:
            self._advance(structure)

    def end(self, job: Job) -> None:
        """End a job that nobody wants any more."""
        if job.number not in self.jobs:
            return
        self._scheduler.remove(job.number)
        self._readings.pop(job.number, None)
        self._current = None if self._current == job.number else self._current
        for structure, pool in self._pools.items():
            for slot, owner in enumerate(pool.owners):
                if owner is not None and owner[0] is job:
                    job.push(owner[1].cancel())
                    pool.dropped[slot] = True
                    self._release(structure, pool, slot)
        for sample in range(job.asked.samples):  # those that have not ended otherwise
            job.push(RowWriter(sample, None, continues=False).cancel())
        self._finish(job)
        self.done.pop(job.number, None)

    def _admit(self) -> None:
        """Read prompts and fill free slots, until enough was read for this round."""
        start, allowance = time.perf_counter(), self._prefill
        while allowance > 0:
            number = self._scheduler.next() if self._current is None else self._current
            if number is None:
                break
            reading = self._readings[number]
            if not reading.is_over:
                self._current = number
                allowance -= self._reader.read(reading)
                if not reading.is_over:
                    continue
            self._current = None
            while self._scheduler.has_room(number):
                self._place(number)
        self._statistics.prefill_seconds += time.perf_counter() - start

    def _place(self, number: int) -> None:
        """Put the next sample of a job into a slot."""
        job, reading = self.jobs[number], self._readings[number]
        structure, slot, sample = self._scheduler.place(number)
        pool = self._pool(structure, job)
        tokens = np.zeros((1, self._length), np.int32)
        tokens[0, : len(job.asked.tokens)] = job.asked.tokens
        pool.rows, earliest_end = programs.admit(
            self._model,
            pool.rows,
            np.int32(slot),
            job.asked.rows,
            job.asked.key,
            np.int32(sample),
            reading.cache,
            tokens,
        )
        writer = RowWriter(sample, job.asked.stopping, continues=job.asked.continues)
        writer.earliest_end = int(earliest_end)
        pool.put(slot, job, writer)
        if sample == 0:
            self._statistics.prompt_tokens += len(job.asked.tokens)
        if sample == job.asked.samples - 1:
            del self._readings[number]

    def _pool(self, structure: Hashable, job: Job) -> Pool:
        """Return the pool of a structure; pools that gave way are dropped first."""
        if structure not in self._pools:
            kept = set(self._scheduler.structures)
            self._pools = {s: pool for s, pool in self._pools.items() if s in kept}
            self._statistics.programs.add(("pool", structure))
            rows = programs.empty_pool(
                self._model,
                job.asked.rows,
                job.asked.key,
                slots=self._scheduler.slots,
                length=self._length,
            )
            self._pools[structure] = Pool(rows, self._scheduler.slots)
        return self._pools[structure]

    def _advance(self, structure: Hashable) -> None:
        """Run a chunk of a pool, and hand out what it wrote."""
        pool = self._pools.get(structure)
        if pool is None or not pool.is_running:
            return
        start, awaited = time.perf_counter(), self._scheduler.is_waiting
        pool.rows, report = programs.advance(
            self._model,
            pool.rows,
            pool.dropped,
            np.int32(pool.steps(self._chunk, is_awaited=awaited)),
            chunk=self._chunk,
            platform=self._platform,
        )
        # No longer needed, and not to be changed while the device may read it.
        pool.dropped = np.zeros_like(pool.dropped)
        report = jax.tree.map(np.asarray, report)
        pool.left -= report.new
        self._count(report, pool, start, awaited)
        for slot, owner in enumerate(pool.owners):
            if owner is not None:
                self._hand_out(structure, pool, slot, owner, report)

    def _hand_out(
        self,
        structure: Hashable,
        pool: Pool,
        slot: int,
        owner: tuple[Job, RowWriter],
        report: programs.Report,
    ) -> None:
        """Give a row's new tokens to its job, and free the slot if it has ended."""
        job, writer = owner
        new = int(report.new[slot])
        status = Status(int(report.status[slot]))
        piece = writer.push(
            report.tokens[slot, :new].tolist(),
            report.model_logprobs[slot, :new].tolist(),
            report.sampling_logprobs[slot, :new].tolist(),
            status,
            observed={name: x[slot, :new] for name, x in report.observed.items()},
        )
        self._statistics.generated_tokens += len(piece.tokens)
        if piece.tokens or piece.text or piece.finish_reason:
            job.push(piece)
        if piece.finish_reason is not None:
            pool.dropped[slot] = status is Status.RUNNING
            self._release(structure, pool, slot)
            self._finish(job)

    def _release(self, structure: Hashable, pool: Pool, slot: int) -> None:
        pool.owners[slot] = None
        self._scheduler.free(structure, slot)

    def _finish(self, job: Job) -> None:
        if job.is_done and self.jobs.pop(job.number, None) is not None:
            self._statistics.requests += 1
            self.done[job.number] = job

    def _count(
        self, report: programs.Report, pool: Pool, start: float, awaited: bool
    ) -> None:
        """Count steps and times of a chunk."""
        end, owned = time.perf_counter(), pool.owned
        self._statistics.count_chunk(
            new=report.new.tolist(),
            older=int((owned & (report.generated > report.new)).sum()),
            owned=int(owned.sum()),
            seconds=end - start,
            pause=start - (pool.last_end or start),
            is_awaited=awaited,
        )
        pool.last_end = end
