"""Floor 3: from logits and a chain to a token, exactly as the contract names it."""

from jaxdecode.sampling.calls import apply, sample
from jaxdecode.sampling.drawing import Draw, draw
from jaxdecode.sampling.lift import init_rows, over_rows, update_rows
from jaxdecode.sampling.processing import process, process_seen
from jaxdecode.sampling.tail import observe

__all__ = [
    "Draw",
    "apply",
    "draw",
    "init_rows",
    "observe",
    "over_rows",
    "process",
    "process_seen",
    "sample",
    "update_rows",
]
