"""A file of requests through an engine: answers in the order of the lines.

Lines are taken in as slots become free, answers are written as soon as all before them
are there. What lies between is bounded, whatever the size of the input.
"""

import dataclasses
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.engine.batch import answers
from jaxdecode.engine.batch.entries import Entry, entries
from jaxdecode.engine.batch.files import read_lines
from jaxdecode.engine.batch.lines import LineError, dump
from jaxdecode.engine.batch.logprobs import bytes_in
from jaxdecode.engine.batch.requests import Defaults, Line, as_line
from jaxdecode.engine.batch.resuming import resumed
from jaxdecode.engine.batch.submitting import submit_line
from jaxdecode.engine.engine import Engine
from jaxdecode.engine.job import Job
from jaxdecode.measure import stored_as
from jaxdecode.native import Panels
from jaxdecode.testing import count_compiles

AHEAD = 16  # times the slots: lines that are waiting, running, or ended out of order
AHEAD_MIN = 128


@dataclasses.dataclass
class Summary:
    """How a run went.

    Attributes:
      answered: lines that were answered by this run, failures among them.
      failed: lines of this run that could not be answered.
      kept: answers of an earlier run.
      seconds: the whole run.
      compile_seconds: how much of it went into compiling.
      compiled: programs.
      recompiled: programs beyond those that a structure of requests needs once.
      engine: numbers of the engine.
    """

    answered: int = 0
    failed: int = 0
    kept: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    compiled: int = 0
    recompiled: int = 0
    engine: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def working_seconds(self) -> float:
        """The run without compiling."""
        return max(self.seconds - self.compile_seconds, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data, with rates."""
        found = {k: v for k, v in dataclasses.asdict(self).items() if k != "engine"}
        for name in ("seconds", "compile_seconds"):
            found[name] = round(found[name], 3)
        rates = {
            f"{kind}_tokens_per_second": round(
                self.engine.get(f"{kind}_tokens", 0) / self.working_seconds, 2
            )
            for kind in ("prompt", "generated")
        }
        return found | rates | self.engine


def run_batch(
    engine: Engine,
    source: str,
    target: str,
    *,
    defaults: Defaults | None = None,
    shard: tuple[int, int] = (0, 1),
    restart: bool = False,
    allow_changes: bool = False,
    progress: Callable[[Summary, Engine], None] = lambda summary, engine: None,
) -> Summary:
    """Answer every line of a file, going on where an earlier run stopped.

    Args:
      engine: the engine; its `length` is part of the settings.
      source: a file of lines (also .gz, .zst), or `-`.
      target: where to the answers go (also .gz, .zst), or `-`.
      defaults: what lines do not say themselves.
      shard: (i, n): only lines i, i + n, i + 2n, ...
      restart: whether to throw away what is in `target`.
      allow_changes: whether answers of other settings may stay in `target`.
      progress: called after every step.

    Returns:
      What was done.

    Raises:
      ValueError: if `target` belongs to another input or other settings.
      OSError: if a file cannot be read or written.
    """
    defaults = Defaults() if defaults is None else defaults
    fingerprint = fingerprint_of(engine, defaults)
    summary, begin = Summary(), time.perf_counter()
    lines = entries(read_lines(source), shard)

    def keep(found: dict[str, Any]) -> None:
        summary.kept += 1

    with (
        count_compiles() as compiles,
        resumed(
            target,
            (entry.id for entry in lines),
            fingerprint=fingerprint,
            restart=restart,
            allow_changes=allow_changes,
            seen=keep,
        ) as writer,
    ):
        run = _Run(engine, defaults, fingerprint)
        known = 0, 0

        def look() -> None:
            nonlocal known
            now = len(engine.statistics.programs), compiles.count
            if now[0] == known[0]:  # nothing new was asked for
                summary.recompiled += now[1] - known[1]
            known = now
            summary.compiled, summary.compile_seconds = now[1], compiles.seconds
            summary.seconds = time.perf_counter() - begin
            progress(summary, engine)

        for found in run.answers(lines, look):
            writer.write(dump(found))
            summary.answered += 1
            summary.failed += answers.is_failure(found)
    summary.seconds = time.perf_counter() - begin
    summary.engine = engine.statistics.summary()
    return summary


def fingerprint_of(engine: Engine, defaults: Defaults) -> str:
    """Return a name for everything that decides what is answered to a line.

    Weights are told apart by their vectors and the first row of each matrix, which a
    training or a merged adapter changes and no layout of matrices does.
    """
    lm = engine.lm
    weights = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(lm.model, is_leaf=lambda x: isinstance(x, Panels)):
        if isinstance(leaf, (jax.Array, np.ndarray, Panels)):
            weights.update(first_row(leaf))
    settings = {
        "name": lm.name,
        "config": repr(lm.config),
        "stored": stored_as(lm.model),
        "weights": weights.hexdigest(),
        "eos_ids": list(lm.eos_ids),
        "template": getattr(lm.chat_template, "source", None),
        "length": engine.length,
        "defaults": dataclasses.asdict(defaults),
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def first_row(array: Any) -> bytes:
    """Return the bytes of an array's first row, of the only row of a vector."""
    if isinstance(array, Panels):
        words = array.words
        column = np.asarray(words[(0,) * (words.ndim - 2)])[:, 0]
        return column.tobytes()[: array.shape[-1] * jnp.dtype(array.kind).itemsize]
    return np.asarray(array[(0,) * max(0, np.ndim(array) - 1)]).tobytes()


@dataclasses.dataclass
class _Pending:
    """A line on its way: a job, or what is wrong."""

    entry: Entry
    line: Line | None = None
    job: Job | None = None
    error: LineError | None = None

    @property
    def is_ready(self) -> bool:
        return self.job is None or self.job.is_done


class _Run:
    """Turns entries into answers, in their order."""

    def __init__(self, engine: Engine, defaults: Defaults, fingerprint: str):
        self._engine, self._defaults = engine, defaults
        self._fingerprint = fingerprint
        self._ahead = max(AHEAD_MIN, AHEAD * engine.slots)

    def answers(
        self, lines: Iterator[Entry], look: Callable[[], None]
    ) -> Iterator[dict[str, Any]]:
        """Yield the answers to entries; `look` is called after every step."""
        pending: deque[_Pending] = deque()
        while True:
            while len(pending) < self._ahead:
                entry = next(lines, None)
                if entry is None:
                    break
                pending.append(self._asked(entry))
            if not pending:
                return
            if not pending[0].is_ready:
                self._engine.step()
                look()
            while pending and pending[0].is_ready:
                yield self._answer(pending.popleft())

    def _asked(self, entry: Entry) -> _Pending:
        if entry.fields is None:
            return _Pending(entry, error=entry.error)
        try:
            line = as_line(entry.fields, entry.index, self._defaults, self._engine.lm)
            return _Pending(entry, line, submit_line(self._engine, line))
        except LineError as error:
            return _Pending(entry, error=error)

    def _answer(self, pending: _Pending) -> dict[str, Any]:
        entry = pending.entry
        if pending.line is None or pending.job is None:
            error = pending.error or LineError("invalid_json", "no fields")
            return answers.failure(
                entry.id,
                error.code,
                error.message,
                number=entry.number,
                envelope=entry.envelope,
            )
        return answers.answer(
            pending.line,
            pending.job.result(),
            fingerprint=self._fingerprint,
            model=self._engine.lm.name,
            bytes_of=bytes_in(self._engine.lm),
        )
