"""Many requests through a fixed number of slots: continuous batching.

    while requests are left:
        put waiting requests into free slots, reading at most `prefill` prompt tokens
        bring every pool of rows `chunk` steps further
        hand out what was written, and free the slots of rows that ended

The host decides between chunks (`scheduling.py`), the device runs a few compiled programs
(`programs.py`). A row computes the same whoever runs beside it.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Unpack

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model
from jaxdecode.core.shapes import KeyLike
from jaxdecode.core.status import Status
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.request import count_of
from jaxdecode.engine import programs
from jaxdecode.engine.asking import Prompt, RequestOptions, as_asked
from jaxdecode.engine.job import Job
from jaxdecode.engine.pool import Pool
from jaxdecode.engine.reading import Reader, Reading
from jaxdecode.engine.results import Result
from jaxdecode.engine.scheduling import Scheduler
from jaxdecode.engine.statistics import Statistics
from jaxdecode.engine.writing import RowWriter
from jaxdecode.native import current_platform
from jaxdecode.text import LanguageModel
from jaxdecode.text.patterns import with_pattern, without_budgets, without_pattern

WHO = "Engine"
LENGTH = 1024  # columns of a slot, unless the model has fewer
WAIT = 0.05  # seconds after which a waiting thread looks whether it has to drive


class Engine:
    """Runs requests of any number in `slots` rows; made to be fed from any thread.

    The tokens of sample s of a request are those of row s of `jaxdecode.generate(
    lm.model, [prompt], key=[key], num_samples=n, ...)` with the same options: they
    depend on the model, the request and its key, not on other requests, their order, or
    the slot. On CPU with kernels they are equal bit for bit; elsewhere the engine equals
    itself bit for bit at equal `slots`, `length` and `block`, and `generate` up to the
    rounding of sums in another order.

    Compiles once per structure of a request (its links and the shapes of their tables)
    and width of a block of prompt (16, 32, ... `block`); values never recompile.

    Args:
      lm: a `LanguageModel`, or a bare model whose prompts are token ids.
      slots: rows that run side by side, >= 1. Memory and speed grow with it.
      length: most tokens of a prompt and its continuation together; None is 1024, or
        the model's `max_length` if that is less.
      chunk: most steps between two looks at the rows, >= 1. Fewer give smoother streams,
        more cost less. While requests wait, a look comes as soon as a budget ends, after
        a quarter of the steps at the earliest. Does not change a text.
      prefill: prompt tokens that are read between two chunks while rows run, >= 1: a
        bound, up to a block, on how long running rows wait.
      block: columns of prompt that are read at once, a power of two >= 16; None is 64 on
        CPU and 256 elsewhere. Prompts share beginnings of whole blocks.
      prefixes: shared beginnings that are kept, each as large as a slot, >= 0.
      pools: structures whose rows may run at a time, >= 1, each with `slots` rows. Others
        wait for their turn.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for values out of range.
    """

    def __init__(
        self,
        lm: LanguageModel | Model,
        *,
        slots: int = 8,
        length: int | None = None,
        chunk: int = 8,
        prefill: int = 512,
        block: int | None = None,
        prefixes: int = 4,
        pools: int = 2,
    ):
        self.lm = lm if isinstance(lm, LanguageModel) else LanguageModel(lm)
        model: Model = self.lm.model
        check_model(WHO, model)
        self.slots = count_of(WHO, "slots", slots)
        self.chunk = count_of(WHO, "chunk", chunk)
        self.prefill = count_of(WHO, "prefill", prefill)
        self.length = _length(model, length)
        self.block = _block(block)
        room = int(check.whole(WHO, "prefixes", prefixes, low=0))
        self._platform: Platform = current_platform()
        self.statistics = Statistics(self.slots)
        self._scheduler = Scheduler(self.slots, count_of(WHO, "pools", pools))
        self._reader = Reader(
            model,
            length=self.length,
            block=self.block,
            room=room,
            platform=self._platform,
            statistics=self.statistics,
        )
        self._numbers = itertools.count()
        self._inbox: deque[tuple[str, Job]] = deque()
        self._jobs: dict[int, Job] = {}  # those that are not done
        self._readings: dict[int, Reading] = {}
        self._current: int | None = None  # the job whose prompt is being read
        self._pools: dict[Hashable, Pool] = {}
        self._done: dict[int, Job] = {}  # those that `results` has not given out
        self._turn = threading.Lock()  # held by the thread that drives
        self._changed = threading.Condition()
        self._broken: BaseException | None = None

    def submit(
        self,
        prompt: Prompt,
        *,
        key: KeyLike,
        id: Hashable = None,
        **options: Unpack[RequestOptions],
    ) -> Job:
        """Ask for a text; returns at once.

        Args:
          prompt: a text, token ids, or the messages of a conversation.
          key: a seed in [0, 2**32 - 1], which stands for `jax.random.key(seed)`, or one
            key; sample s draws with `fold_in(key, s)`. Consumed.
          id: a name for the result; None is the request's number.
          **options: see `RequestOptions`.

        Returns:
          A `Job`: `stream()` yields pieces, `result()` waits, `cancel()` ends it.

        Raises:
          TypeError: for arguments of the wrong kind.
          ValueError: for values out of range; `PromptTooLong` beyond `length`.
        """
        asked = as_asked(self.lm, prompt, key, options, length=self.length)
        number = next(self._numbers)
        name = number if id is None else id
        job = Job(number, name, asked, self._wait, self._cancel)
        self._inbox.append(("submit", job))
        with self._changed:
            self._changed.notify_all()
        return job

    def step(self) -> bool:
        """Do one round: admit, run a chunk, hand out. Whether anything is left to do.

        Waits if another thread is in a step.
        """
        with self._turn:
            self._round()
        return self.is_busy

    @property
    def is_busy(self) -> bool:
        """Whether a request is waiting or running."""
        return bool(self._inbox or self._jobs)

    @property
    def is_waiting(self) -> bool:
        """Whether a request waits for a slot."""
        return bool(self._inbox) or self._scheduler.is_waiting

    def results(self) -> Iterator[Result]:
        """Yield the results of submitted requests as they end, until none is left.

        A request whose `result` or `stream` was taken, or that was cancelled, is not
        among them. More may be submitted meanwhile.
        """
        while True:
            while self._done:
                yield self._done.pop(next(iter(self._done))).peek()
            if not self.is_busy:
                return
            self._drive_or_wait(lambda: bool(self._done) or not self.is_busy)

    __iter__ = results

    def warm_up(self, **options: Unpack[RequestOptions]) -> None:
        """Compile everything that requests with such options need.

        Args:
          **options: as in `submit`; only their structure matters.

        Raises:
          ValueError: if requests are waiting or running.
        """
        if self.is_busy:
            raise ValueError("Engine.warm_up: must be called before `submit`.")
        sampler = without_budgets(with_pattern("Engine.warm_up", options, self.lm))
        given: Any = {
            **without_pattern(options),
            "sampler": sampler,
            "max_new_tokens": 1,
            "num_samples": 1,
        }
        widths = [16 << i for i in range(self.block.bit_length() - 4)]
        lengths = {min(width + 1, self.length - 1) for width in widths}
        last = 1 + (self.length - 2) // self.block * self.block
        lengths |= {min(last + width, self.length - 1) for width in [0, *widths]}
        for length in sorted(lengths):
            for seed in (0, 1):  # the second one takes over what the first one left
                self.submit([0] * length, key=seed, **given).result()
        self._reader.prefixes.forget()
        self.statistics.reset()
        self._numbers = itertools.count()

    # -- driving: one thread at a time

    def _wait(self, job: Job, ready: Callable[[], bool]) -> None:
        self._drive_or_wait(ready)
        if job.is_done:
            self._done.pop(job.number, None)

    def _drive_or_wait(self, ready: Callable[[], bool]) -> None:
        """Go on until something is ready, whichever thread drives."""
        while not ready():
            if self._turn.acquire(blocking=False):
                try:
                    if not ready():
                        self._round()
                finally:
                    self._turn.release()
            else:
                with self._changed:
                    if not ready():
                        self._changed.wait(WAIT)

    def _cancel(self, job: Job) -> None:
        self._inbox.append(("cancel", job))

    def _round(self) -> None:
        if self._broken is not None:
            raise RuntimeError("Engine: an earlier step failed.") from self._broken
        try:
            self._take_in()
            self._admit()
            for structure in self._scheduler.structures:
                self._advance(structure)
        except BaseException as error:
            # Rows that a failed program was given are gone.
            self._broken = error
            raise
        finally:
            with self._changed:
                self._changed.notify_all()

    def _take_in(self) -> None:
        """Learn of what other threads asked for."""
        while self._inbox:
            what, job = self._inbox[0]
            if what == "cancel":
                self._end(job)
            else:
                self._jobs[job.number] = job
                self._readings[job.number] = self._reader.begin(job.asked.tokens)
                self._scheduler.add(job.number, job.asked.structure, job.asked.samples)
            self._inbox.popleft()  # now only, so that `is_busy` never misses a job

    def _admit(self) -> None:
        """Read prompts and fill free slots, until enough was read for this round."""
        start, allowance = time.perf_counter(), self.prefill
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
        self.statistics.prefill_seconds += time.perf_counter() - start

    def _place(self, number: int) -> None:
        """Put the next sample of a job into a slot."""
        job, reading = self._jobs[number], self._readings[number]
        structure, slot, sample = self._scheduler.place(number)
        pool = self._pool(structure, job)
        tokens = np.zeros((1, self.length), np.int32)
        tokens[0, : len(job.asked.tokens)] = job.asked.tokens
        pool.rows, earliest_end = programs.admit(
            self.lm.model,
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
            self.statistics.prompt_tokens += len(job.asked.tokens)
        if sample == job.asked.samples - 1:
            del self._readings[number]

    def _pool(self, structure: Hashable, job: Job) -> Pool:
        """Return the pool of a structure; pools that gave way are dropped first."""
        if structure not in self._pools:
            kept = set(self._scheduler.structures)
            self._pools = {s: pool for s, pool in self._pools.items() if s in kept}
            self.statistics.programs.add(("pool", structure))
            rows = programs.empty_pool(
                self.lm.model,
                job.asked.rows,
                job.asked.key,
                slots=self.slots,
                length=self.length,
            )
            self._pools[structure] = Pool(rows, self.slots)
        return self._pools[structure]

    def _advance(self, structure: Hashable) -> None:
        """Run a chunk of a pool, and hand out what it wrote."""
        pool = self._pools.get(structure)
        if pool is None or not pool.is_running:
            return
        start, awaited = time.perf_counter(), self._scheduler.is_waiting
        pool.rows, report = programs.advance(
            self.lm.model,
            pool.rows,
            pool.dropped,
            np.int32(pool.steps(self.chunk, is_awaited=awaited)),
            chunk=self.chunk,
            platform=self._platform,
        )
        # No longer needed, and not to be changed while the device may read it.
        pool.dropped = np.zeros((self.slots,), bool)
        report = jax.tree.map(np.asarray, report)
        pool.left -= report.new
        self._count(report, pool, start, awaited)
        for slot, owner in enumerate(pool.owners):
            if owner is not None:
                self._hand_out(structure, pool, slot, owner, report)

    def _hand_out(self, structure, pool: Pool, slot: int, owner, report) -> None:
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
        self.statistics.generated_tokens += len(piece.tokens)
        if piece.tokens or piece.text or piece.finish_reason:
            job.push(piece)
        if piece.finish_reason is not None:
            pool.dropped[slot] = status is Status.RUNNING
            self._release(structure, pool, slot)
            self._finish(job)

    def _release(self, structure: Hashable, pool: Pool, slot: int) -> None:
        pool.owners[slot] = None
        self._scheduler.free(structure, slot)

    def _end(self, job: Job) -> None:
        """End a job that nobody wants any more."""
        if job.number not in self._jobs:
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
        self._done.pop(job.number, None)

    def _finish(self, job: Job) -> None:
        if job.is_done and self._jobs.pop(job.number, None) is not None:
            self.statistics.requests += 1
            self._done[job.number] = job

    def _count(self, report, pool: Pool, start: float, awaited: bool) -> None:
        """Count steps and times of a chunk."""
        end, owned = time.perf_counter(), pool.owned
        self.statistics.count_chunk(
            new=report.new.tolist(),
            older=int((owned & (report.generated > report.new)).sum()),
            owned=int(owned.sum()),
            seconds=end - start,
            pause=start - (pool.last_end or start),
            is_awaited=awaited,
        )
        pool.last_end = end


def _length(model: Model, length: int | None) -> int:
    if length is None:
        return min(LENGTH, model.max_length)
    return int(check.whole(WHO, "length", length, low=2, high=model.max_length))


def _block(block: int | None) -> int:
    if block is None:
        return 64 if jax.default_backend() == "cpu" else 256
    size = int(check.whole(WHO, "block", block, low=16))
    if size & (size - 1):
        raise ValueError(f"{WHO}: `block` must be a power of two, got {size}.")
    return size
