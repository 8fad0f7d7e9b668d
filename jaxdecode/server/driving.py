"""The one thread that drives the engine, and how an event loop waits for texts.

    event loop   ticket = driver.ticket(): a place in the queue, or 429
    any thread   ticket.submit(lines): checks, tokenizes, submits
    driver       engine.step() while anything is left; gives new pieces to the loops
    event loop   async for piece in ticket.pieces(): ...
    event loop   ticket.close(): frees the slots of a text that nobody waits for

It knows nothing of HTTP. A ticket counts until its rows have left their slots, not until
its client has gone.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Iterable, Sequence

from jaxdecode.engine import Engine, Job, Piece, Result
from jaxdecode.engine.batch.requests import Line
from jaxdecode.engine.batch.submitting import submit_line
from jaxdecode.server.limits import Refusal, broken, too_busy


class Driver:
    """Drives an engine in a thread of its own, from `start` to `stop`.

    Args:
      engine: the engine; nobody else may step it meanwhile.
      texts_max: texts that may be in it at a time, waiting ones included.
    """

    def __init__(self, engine: Engine, texts_max: int):
        self.engine, self.texts_max = engine, texts_max
        self.texts = 0  # that have a place, whether submitted yet or not
        self.is_broken = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._watched: dict[Job, Ticket] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to drive."""
        self._stopping = False
        self._thread = threading.Thread(
            target=self._drive, name="jaxdecode-engine", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is running; texts that are left are cancelled."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        for ticket in set(self._watched.values()):
            ticket.close()

    def ticket(self) -> "Ticket":
        """Take a place for one text, from within an event loop.

        Raises:
          Refusal: 429 if there is none, 500 if the engine failed.
        """
        return Ticket(self)

    def reserve(self, texts: int) -> None:
        """Take places for some texts more, all of them or none.

        Raises:
          Refusal: 429 if there are too few.
        """
        with self._lock:
            if self.texts + texts > self.texts_max:
                raise too_busy(self.texts)
            self.texts += texts

    def release(self, texts: int) -> None:
        """Give places back."""
        with self._lock:
            self.texts -= texts

    def watch(self, ticket: "Ticket", jobs: Iterable[Job]) -> None:
        """Hand out what jobs write from now on, beginning with what is there.

        Raises:
          Refusal: 500 if the engine failed.
        """
        with self._lock:
            if self.is_broken:
                raise broken()
            self._watched |= dict.fromkeys(jobs, ticket)
        self._wake.set()

    def wake(self) -> None:
        """Look again for something to do."""
        self._wake.set()

    def _drive(self) -> None:
        try:
            while not self._stopping:
                # Cleared before looking, so that what comes meanwhile is not missed.
                self._wake.clear()
                if self.engine.is_busy:
                    self.engine.step()
                self._hand_out()
                if not self.engine.is_busy:
                    self._wake.wait()
        except Exception:
            traceback.print_exc(file=sys.stderr)
            with self._lock:
                self.is_broken = True
                left = dict(self._watched)
                self._watched.clear()
            for job, ticket in left.items():
                ticket.fail()
                ticket.ended(job)

    def _hand_out(self) -> None:
        with self._lock:
            watched = list(self._watched.items())
        for job, ticket in watched:
            is_done = job.is_done  # read first: then nothing comes after the pieces
            pieces = job.take()
            if pieces:
                ticket.give(job, pieces)
            if is_done:
                job.result()  # is there, and the engine forgets it
                with self._lock:
                    del self._watched[job]
                ticket.ended(job)


class Ticket:
    """One request on its way through the engine; made by `Driver.ticket`.

    Each of its prompts is a job; the texts are numbered through all of them.
    """

    def __init__(self, driver: Driver):
        if driver.is_broken:
            raise broken()
        driver.reserve(1)
        self._driver = driver
        self._texts = 1  # that it is about
        self._held = 1  # places that it has
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[Piece] | None] = asyncio.Queue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._submitting = False
        self._first: dict[Job, int] = {}  # the number of each job's first text

    def submit(self, lines: Sequence[Line]) -> None:
        """Submit what lines ask for; may take long, so not on the event loop.

        Raises:
          LineError: if the engine refuses one of them.
          Refusal: 429 if there is no room for all of their texts, 400 if there never is.
        """
        with self._lock:
            if self._is_closed:
                return
            self._submitting = True
        jobs: list[Job] = []
        try:
            self._reserve(sum(line.options["num_samples"] for line in lines))
            for line in lines:
                jobs.append(submit_line(self._driver.engine, line))
            self._begin(jobs)
        except BaseException:
            self._give_up(jobs)
            raise
        if self._is_closed:
            self._cancel()

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the pieces of all texts, to the last one of each.

        Raises:
          Refusal: if the engine fails.
        """
        left = self._texts
        while left:
            pieces = await self._queue.get()
            if pieces is None:
                raise broken()
            for piece in pieces:
                yield piece
                left -= piece.finish_reason is not None

    def result(self) -> Result:
        """Return the texts, after the last of `pieces`."""
        results = [job.peek() for job in self._first]
        samples = tuple(sample for result in results for sample in result.samples)
        read = sum(result.prompt_tokens for result in results)
        return Result(results[0].id, samples, read)

    def close(self) -> None:
        """Want nothing more: what still runs or waits is cancelled."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            submitting = self._submitting
        if submitting:  # its end sees that this one is closed
            self._cancel()
        else:
            self._release(self._held)

    def give(self, job: Job, pieces: list[Piece]) -> None:
        """Pass pieces of a job to the event loop."""
        first = self._first[job]
        self._put([dataclasses.replace(p, sample=first + p.sample) for p in pieces])

    def fail(self) -> None:
        """Say that no piece will come any more."""
        self._put(None)

    def ended(self, job: Job) -> None:
        """Give back the places of a job whose rows have left their slots."""
        self._release(job.asked.samples)

    def _put(self, pieces: list[Piece] | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._queue.put_nowait, pieces)

    def _reserve(self, texts: int) -> None:
        """Take places for all texts in place of one."""
        most = self._driver.texts_max
        if texts > most:
            message = f"prompts times `n` must be at most {most} here, got {texts}"
            raise Refusal(400, "invalid_value", message)
        self._driver.reserve(texts - 1)
        self._texts = self._held = texts

    def _begin(self, jobs: Sequence[Job]) -> None:
        """Wait for jobs from now on."""
        counts = [job.asked.samples for job in jobs]
        starts = itertools.accumulate(counts, initial=0)
        self._first = dict(zip(jobs, starts, strict=False))
        self._driver.watch(self, jobs)

    def _give_up(self, jobs: Sequence[Job]) -> None:
        """Give places back after a refusal; those of running rows when they end."""
        running = 0
        if jobs and not self._driver.is_broken:
            self._begin(jobs)
            running = sum(job.asked.samples for job in jobs)
            self._cancel()
        self._release(self._held - running)

    def _release(self, texts: int) -> None:
        with self._lock:
            self._held -= texts
        self._driver.release(texts)

    def _cancel(self) -> None:
        for job in list(self._first):
            if not job.is_done:
                job.cancel()
        self._driver.wake()
