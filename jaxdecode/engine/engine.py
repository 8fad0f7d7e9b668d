"""Many requests through a fixed number of slots: continuous batching.

    while requests are left:
        put waiting requests into free slots, reading at most `prefill` prompt tokens
        bring every pool of rows `chunk` steps further
        hand out what was written, and free the slots of rows that ended

The host decides between chunks (`scheduling.py`), the device runs a few compiled programs
(`programs.py`); one thread at a time does a round of it (`rounds.py`). A row computes the
same whoever runs beside it.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Unpack

import jax

from jaxdecode.core import check
from jaxdecode.core.protocol import Model
from jaxdecode.core.shapes import KeyLike
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.request import count_of
from jaxdecode.engine.asking import Prompt, RequestOptions, as_asked
from jaxdecode.engine.job import Job
from jaxdecode.engine.reading import Reader
from jaxdecode.engine.results import Result
from jaxdecode.engine.rounds import Rounds
from jaxdecode.engine.scheduling import Scheduler
from jaxdecode.engine.statistics import Statistics
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
        platform = current_platform()
        self.statistics = Statistics(self.slots)
        scheduler = Scheduler(self.slots, count_of(WHO, "pools", pools))
        self._reader = Reader(
            model,
            length=self.length,
            block=self.block,
            room=room,
            platform=platform,
            statistics=self.statistics,
        )
        self._rounds = Rounds(
            model,
            scheduler,
            self._reader,
            chunk=self.chunk,
            prefill=self.prefill,
            length=self.length,
            platform=platform,
            statistics=self.statistics,
        )
        self._numbers = itertools.count()
        self._inbox: deque[tuple[str, Job]] = deque()
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
        return bool(self._inbox or self._rounds.jobs)

    @property
    def is_waiting(self) -> bool:
        """Whether a request waits for a slot."""
        return bool(self._inbox) or self._rounds.is_waiting

    def results(self) -> Iterator[Result]:
        """Yield the results of submitted requests as they end, until none is left.

        A request whose `result` or `stream` was taken, or that was cancelled, is not
        among them. More may be submitted meanwhile.
        """
        done = self._rounds.done
        while True:
            while done:
                yield done.pop(next(iter(done))).peek()
            if not self.is_busy:
                return
            self._drive_or_wait(lambda: bool(done) or not self.is_busy)

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
            self._rounds.done.pop(job.number, None)

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
            self._rounds.run()
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
                self._rounds.end(job)
            else:
                self._rounds.add(job)
            self._inbox.popleft()  # now only, so that `is_busy` never misses a job


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
