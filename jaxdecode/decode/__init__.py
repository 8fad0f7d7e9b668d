"""Floor 4: the compiled loop; knows the model protocol and chains, no concrete model."""

from jaxdecode.decode.generate import Generation, generate
from jaxdecode.decode.stops import Stops
from jaxdecode.decode.stream import stream

__all__ = ["Generation", "Stops", "generate", "stream"]
