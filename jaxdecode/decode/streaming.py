"""`stream`: the same tokens as `generate`, handed out while they are drawn.

Two programs instead of one: the first reads the prompts, the second draws tokens, as
many as an argument says. The next piece is already running on the device while the
caller looks at the last one.

Where a model allows it the second program knows nothing of how long prompts are, but a
multiple of `COLUMNS` into which they fit with their new tokens: for prompts of another
bucket only the first is compiled.
"""

from collections.abc import Iterator
from typing import Unpack

import numpy as np

from jaxdecode.core import check
from jaxdecode.core.keys import no_key
from jaxdecode.core.platform import Platform
from jaxdecode.core.processes import in_every_process
from jaxdecode.core.protocol import IgnoresUnusedColumns, Model
from jaxdecode.core.shapes import KeyLike, TokenLists
from jaxdecode.core.status import Status
from jaxdecode.decode import steps
from jaxdecode.decode.generation import Generation, collect
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.request import Options, Request, prepare
from jaxdecode.decode.rows import Rows
from jaxdecode.native import current_platform

COLUMNS = 256  # of float32, 12 MB a row in the cache of SmolLM2-135M


def stream(
    model: Model,
    prompts: TokenLists,
    key: KeyLike,
    *,
    every: int = 4,
    **options: Unpack[Options],
) -> Iterator[Generation]:
    """Yield the tokens of `generate` piece by piece.

    Recompiles as `generate`. On a CPU with kernels, for prompts of another bucket, only
    their reading is compiled, unless they need another multiple of 256 columns with what
    is drawn.

    Args:
      model: as in `generate`.
      prompts: as in `generate`.
      key: as in `generate`.
      every: draws per piece, >= 1; the first piece has one. Values do not recompile.
      **options: as in `generate`: sampler, max_new_tokens, eos_ids, pad_id, num_samples,
        stop, observe.

    Returns:
      An iterator over `Generation` with numpy leaves. Each holds new tokens only:
      `tokens` [R, n], of which `lengths` [R] are real; `status` is RUNNING for rows
      that go on. Arguments are checked at the call, before the first piece is asked for.

    Raises:
      TypeError: as `generate`.
      ValueError: as `generate`.
    """
    check_model("stream", model)
    check.whole("stream", "every", every, low=1)
    if key is None:
        raise no_key("stream")
    request = prepare("stream", model, prompts, key, options)
    return _pieces(model, request, every, current_platform())


def _pieces(
    model: Model, request: Request, every: int, platform: Platform
) -> Iterator[Generation]:
    def advance(rows, draws):
        pad_id = request.pad_id
        return _advance(model, rows, pad_id, np.int32(draws), platform=platform)

    rows = _start(
        model,
        request.prompts,
        request.rows,
        new_tokens_max=request.new_tokens_max,
        platform=platform,
    )
    rows, drawn = advance(rows, 1)
    shown, begin, end = np.zeros(request.rows.budget.shape, np.int32), 0, 1
    while end < request.width:
        # Ask for the next piece before looking at this one: the device need not wait.
        further = min(end + every, request.width)
        rows, ahead = advance(rows, further - end)
        piece = _between(drawn, shown, begin, end)
        yield piece
        if not (piece.status == Status.RUNNING).any():
            return
        shown = shown + piece.lengths
        drawn, begin, end = ahead, end, further
    yield _between(drawn, shown, begin, end)


@compiled(static=("new_tokens_max", "platform"))
def _start(
    model: Model,
    prompts: Prompts,
    rows: Rows,
    *,
    new_tokens_max: int,
    platform: Platform,
) -> Rows:
    columns = None
    if _serves_any_length(model):
        needed = prompts.tokens.shape[1] + new_tokens_max
        columns = min(-(-needed // COLUMNS) * COLUMNS, model.max_length)
    return steps.start(
        model,
        prompts,
        rows,
        new_tokens_max=new_tokens_max,
        platform=platform,
        columns=columns,
    )


@compiled(static=("platform",), donate=(1,))
def _advance(model: Model, rows: Rows, pad_id, draws, *, platform: Platform):
    width = 0  # of the prompts: any
    if not _serves_any_length(model):
        width = rows.tokens.shape[1] - rows.model_logprobs.shape[1]
    rows = steps.finish(model, rows, width=width, platform=platform, limit=draws)
    return rows, collect(rows, pad_id)


def _serves_any_length(model: Model) -> bool:
    return isinstance(model, IgnoresUnusedColumns) and model.ignores_unused_columns


def _between(drawn: Generation, shown: np.ndarray, begin: int, end: int) -> Generation:
    """Return the draws `begin` to `end`, of which rows have `shown` a number so far."""
    drawn = in_every_process(drawn)
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
