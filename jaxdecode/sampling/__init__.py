"""Floor 3: from logits and a chain to a token, exactly as the contract names it."""

from jaxdecode.sampling.apply import apply, sample
from jaxdecode.sampling.draw import Draw, draw
from jaxdecode.sampling.process import process

__all__ = ["Draw", "apply", "draw", "process", "sample"]
