"""Floor 2: the links of a chain, from logits to processed logits, one row at a time."""

from jaxdecode.transforms.base import Context, Drawn, Edit, Link, Scale, Truncation
from jaxdecode.transforms.candidates import Candidates
from jaxdecode.transforms.chain import Chain, as_chain, chain, joint
from jaxdecode.transforms.penalties import (
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
)
from jaxdecode.transforms.scale import Temperature
from jaxdecode.transforms.truncation import MinP, TopK, TopP
from jaxdecode.transforms.vocabulary import BanTokens, LogitBias, MinNewTokens

__all__ = [
    "BanTokens",
    "Candidates",
    "Chain",
    "Context",
    "Drawn",
    "Edit",
    "FrequencyPenalty",
    "Link",
    "LogitBias",
    "MinNewTokens",
    "MinP",
    "PresencePenalty",
    "RepetitionPenalty",
    "Scale",
    "Temperature",
    "TopK",
    "TopP",
    "Truncation",
    "as_chain",
    "chain",
    "joint",
]
