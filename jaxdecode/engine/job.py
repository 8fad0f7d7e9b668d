"""A request as its owner sees it: a stream of pieces, a result, and a way to end it.

May be used from any thread. Whoever waits drives the engine, unless another thread does.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator

from jaxdecode.engine.asking import Asked
from jaxdecode.engine.results import Piece, Result, Sample


class Job:
    """A submitted request; made by `Engine.submit`.

    Attributes:
      id: the name it was submitted under.
      number: how many were submitted before it.
    """

    def __init__(
        self,
        number: int,
        id: Hashable,
        asked: Asked,
        wait: Callable[["Job", Callable[[], bool]], None],
        cancel: Callable[["Job"], None],
    ):
        self.number, self.id = number, id
        self.asked = asked
        self._wait, self._cancel = wait, cancel
        self._pieces: list[list[Piece]] = [[] for _ in range(asked.samples)]
        self._fresh: deque[Piece] = deque()
        self._left = asked.samples
        self._lock = threading.Lock()

    @property
    def is_done(self) -> bool:
        """Whether all samples have ended."""
        return self._left == 0

    def stream(self) -> Iterator[Piece]:
        """Yield the pieces of all samples while they are written, each once.

        Stopping early does not cancel the request; `cancel` does.
        """
        while True:
            self._wait(self, lambda: bool(self._fresh) or self.is_done)
            while self._fresh:
                yield self._fresh.popleft()
            if self.is_done and not self._fresh:
                return

    def take(self) -> list[Piece]:
        """Return the pieces that are new, without waiting and without driving.

        For a program whose own thread calls `Engine.step`; each piece comes once, here or
        from `stream`.
        """
        taken = []
        while self._fresh:
            taken.append(self._fresh.popleft())
        return taken

    def result(self) -> Result:
        """Wait until all samples have ended, and return them."""
        self._wait(self, lambda: self.is_done)
        return self.peek()

    def cancel(self) -> None:
        """End the request where it is; `result` then gives what was written."""
        self._cancel(self)

    def peek(self) -> Result:
        """Return what was written so far."""
        samples = tuple(Sample.of(pieces) for pieces in self._pieces)
        return Result(self.id, samples, len(self.asked.tokens))

    def push(self, piece: Piece) -> None:
        """Add a piece; for the engine only."""
        with self._lock:
            pieces = self._pieces[piece.sample]
            if pieces and pieces[-1].finish_reason:
                return
            pieces.append(piece)
            self._fresh.append(piece)
            self._left -= piece.finish_reason is not None
