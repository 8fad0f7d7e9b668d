"""Floor 4: the compiled loop; knows the model protocol and chains, no concrete model."""

from jaxdecode.decode.dola import LayerContrast, dola
from jaxdecode.decode.exporting import export as export
from jaxdecode.decode.exporting import exported_weights as exported_weights
from jaxdecode.decode.generation import Generation, generate, trace
from jaxdecode.decode.guidance import Contrastive, Guided, contrastive, guided
from jaxdecode.decode.masks import prompts
from jaxdecode.decode.scoring import Score, score
from jaxdecode.decode.stops import Stops
from jaxdecode.decode.streaming import stream
from jaxdecode.decode.warming import WarmedUp, warm_up

__all__ = [
    "Contrastive",
    "Generation",
    "Guided",
    "LayerContrast",
    "Score",
    "Stops",
    "WarmedUp",
    "contrastive",
    "dola",
    "generate",
    "guided",
    "prompts",
    "score",
    "stream",
    "trace",
    "warm_up",
]
