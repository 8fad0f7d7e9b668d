"""The one thread that drives the engine, and how an event loop waits for texts.

    event loop   ticket = driver.ticket(): a place in the queue, or 429
    any thread   ticket.submit(line): checks, tokenizes, submits
    driver       engine.step() while anything is left; gives new pieces to the loops
    event loop   async for piece in ticket.pieces(): ...
    event loop   ticket.close(): frees the slots of a text that nobody waits for

It knows nothing of HTTP. A ticket counts until its rows have left their slots, not until
its client has gone.
"""

import asyncio
import contextlib
import sys
import threading
import traceback
from collections.abc import AsyncIterator

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
        self._tickets: dict[Ticket, Job] = {}
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
        for ticket in list(self._tickets):
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

    def watch(self, ticket: "Ticket", job: Job) -> None:
        """Hand out what a job writes from now on, beginning with what is there.

        Raises:
          Refusal: 500 if the engine failed.
        """
        with self._lock:
            if self.is_broken:
                raise broken()
            self._tickets[ticket] = job
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
                left = list(self._tickets)
                self._tickets.clear()
            for ticket in left:
                ticket.give(None)
                ticket.ended()

    def _hand_out(self) -> None:
        with self._lock:
            watched = list(self._tickets.items())
        for ticket, job in watched:
            is_done = job.is_done  # read first: then nothing comes after the pieces
            pieces = job.take()
            if pieces:
                ticket.give(pieces)
            if is_done:
                job.result()  # is there, and the engine forgets it
                with self._lock:
                    del self._tickets[ticket]
                ticket.ended()


class Ticket:
    """One request on its way through the engine; made by `Driver.ticket`."""

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
        self.job: Job | None = None

    def submit(self, line: Line) -> None:
        """Submit what a line asks for; may take long, so not on the event loop.

        Raises:
          LineError: if the engine refuses it.
          Refusal: 429 if there is no room for all of its texts, 400 if there never is.
        """
        with self._lock:
            if self._is_closed:
                return
            self._submitting = True
        try:
            self._reserve(line.options["num_samples"])
            job = submit_line(self._driver.engine, line)
            self._driver.watch(self, job)
        except BaseException:
            self.ended()
            raise
        with self._lock:
            self.job = job
            is_closed = self._is_closed
        if is_closed:
            self._cancel(job)

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
        assert self.job is not None
        return self.job.peek()

    def close(self) -> None:
        """Want nothing more: what still runs or waits is cancelled."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            job, submitting = self.job, self._submitting
        if job is not None:
            if not job.is_done:
                self._cancel(job)
        elif not submitting:
            self.ended()

    def give(self, pieces: list[Piece] | None) -> None:
        """Pass pieces to the event loop; None says that none will come."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._queue.put_nowait, pieces)

    def ended(self) -> None:
        """Give the places back, once."""
        with self._lock:
            held, self._held = self._held, 0
        self._driver.release(held)

    def _reserve(self, texts: int) -> None:
        """Take places for all texts in place of one."""
        most = self._driver.texts_max
        if texts > most:
            message = f"`n` must be at most {most} here, got {texts}"
            raise Refusal(400, "invalid_value", message)
        self._driver.reserve(texts - 1)
        self._texts = self._held = texts

    def _cancel(self, job: Job) -> None:
        job.cancel()
        self._driver.wake()
