"""`stream`: the same tokens as `generate`, handed out while they are drawn.

Two programs instead of one: the first reads the prompts, the second draws tokens, as
many as an argument says. The next piece is already running on the
device while the caller looks at the last one.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.status import Status
from jaxdecode.decode import loop as loops
from jaxdecode.decode.generate import Generation, collect
from jaxdecode.decode.partition import Fixed, combine, partition
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.request import prepare
from jaxdecode.decode.state import Job, State
from jaxdecode.transforms import Chain, Link


def stream(
    model: Any,
    prompts: Any,
    key: Any,
    *,
    sampler: Link | Chain | None = None,
    max_new_tokens: Any = 64,
    eos_ids: Any = None,
    pad_id: Any = 0,
    num_samples: int = 1,
    stop: Any = None,
    observe: Sequence[str] = (),
    every: int = 4,
) -> Iterator[Generation]:
    """Yield the tokens of `generate` piece by piece.

    Args:
      model: as in `generate`.
      prompts: as in `generate`.
      key: as in `generate`.
      sampler: as in `generate`.
      max_new_tokens: as in `generate`.
      eos_ids: as in `generate`.
      pad_id: as in `generate`.
      num_samples: as in `generate`.
      stop: as in `generate`.
      observe: as in `generate`.
      every: draws per piece, >= 1; the first piece has one. Values do not recompile.

    Returns:
      An iterator over `Generation` with numpy leaves. Each holds new tokens only:
      `tokens` [R, n], of which `lengths` [R] are real; `status` is RUNNING for rows
      that go on. Arguments are checked at the call, before the first piece is asked for.

    Raises:
      TypeError: as `generate`.
      ValueError: as `generate`.
    """
    arrays, fixed = partition(model)
    check.whole("stream", "every", every, low=1)
    request = prepare(
        "stream",
        model,
        prompts,
        key,
        sampler=sampler,
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids,
        pad_id=pad_id,
        num_samples=num_samples,
        stop=stop,
        observe=observe,
    )
    return _pieces(arrays, fixed, request.prompts, request.job, request.width, every)


def _pieces(arrays, fixed, prompts, job, width, every) -> Iterator[Generation]:
    def until(draws):
        return _advance(arrays, job, state, np.int32(draws), fixed=fixed)

    state = _start(arrays, prompts, job, fixed=fixed)
    state, drawn = until(1)
    shown, begin, end = np.zeros(job.budgets.shape, np.int32), 0, 1
    while end < width:
        # Ask for the next piece before looking at this one: the device need not wait.
        further = min(end + every, width)
        state, ahead = until(further)
        piece = _between(drawn, shown, begin, end)
        yield piece
        if not (piece.status == Status.RUNNING).any():
            return
        shown = shown + piece.lengths
        drawn, begin, end = ahead, end, further
    yield _between(drawn, shown, begin, end)


@functools.partial(jax.jit, static_argnames=("fixed",))
def _start(arrays, prompts: Prompts, job: Job, *, fixed: Fixed) -> State:
    return loops.start(combine(arrays, fixed), prompts, job)


@functools.partial(jax.jit, static_argnames=("fixed",), donate_argnames=("state",))
def _advance(arrays, job: Job, state: State, until, *, fixed: Fixed):
    model = combine(arrays, fixed)
    state = loops.run_while(model, job, state, until=until, steps=1)
    return state, collect(job, state)


def _between(drawn: Generation, shown: np.ndarray, begin: int, end: int) -> Generation:
    """Return the draws `begin` to `end`, of which rows have `shown` a number so far."""
    return Generation(
        tokens=np.asarray(drawn.tokens)[:, begin:end],
        lengths=np.asarray(drawn.lengths) - shown,
        model_logprobs=np.asarray(drawn.model_logprobs)[:, begin:end],
        sampling_logprobs=np.asarray(drawn.sampling_logprobs)[:, begin:end],
        status=np.asarray(drawn.status),
        observations={
            name: np.asarray(values)[:, begin:end]
            for name, values in drawn.observations.items()
        },
    )
