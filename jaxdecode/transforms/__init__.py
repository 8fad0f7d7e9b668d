"""Floor 2: the links of a chain, from logits to processed logits, one row at a time."""

from jaxdecode.transforms.base import Edit, Link, Scale, Truncation
from jaxdecode.transforms.candidates import Candidates
from jaxdecode.transforms.chain import (
    Chain,
    as_chain,
    chain,
    from_dict,
    joint,
    to_dict,
)
from jaxdecode.transforms.context import Context, Drawn
from jaxdecode.transforms.cutoffs import EpsilonCutoff, EtaCutoff, PLess, TopA
from jaxdecode.transforms.feedback import AdaptiveP, Mirostat
from jaxdecode.transforms.forcing import (
    AllowTokens,
    ExponentialDecayLength,
    ForcedTokens,
    SuppressAtBegin,
)
from jaxdecode.transforms.matching import (
    Choice,
    JsonSchema,
    Matches,
    Regex,
)
from jaxdecode.transforms.ngrams import DRY, NoRepeatNGram
from jaxdecode.transforms.penalties import (
    EncoderRepetition,
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
)
from jaxdecode.transforms.response_format import from_response_format
from jaxdecode.transforms.scale import DynamicTemperature, Quadratic, Temperature
from jaxdecode.transforms.sequences import BanSequences, SequenceBias
from jaxdecode.transforms.shape import TailFree, TopNSigma
from jaxdecode.transforms.truncation import MinP, TopK, TopP
from jaxdecode.transforms.typicality import TopH, Typical
from jaxdecode.transforms.vocabulary import BanTokens, LogitBias, MinNewTokens
from jaxdecode.transforms.watermark import (
    Watermark,
    WatermarkEvidence,
    detect_watermark,
)
from jaxdecode.transforms.xtc import XTC

__all__ = [
    "DRY",
    "XTC",
    "AdaptiveP",
    "AllowTokens",
    "BanSequences",
    "BanTokens",
    "Candidates",
    "Chain",
    "Choice",
    "Context",
    "Drawn",
    "DynamicTemperature",
    "Edit",
    "EncoderRepetition",
    "EpsilonCutoff",
    "EtaCutoff",
    "ExponentialDecayLength",
    "ForcedTokens",
    "FrequencyPenalty",
    "JsonSchema",
    "Link",
    "LogitBias",
    "Matches",
    "MinNewTokens",
    "MinP",
    "Mirostat",
    "NoRepeatNGram",
    "PLess",
    "PresencePenalty",
    "Quadratic",
    "Regex",
    "RepetitionPenalty",
    "Scale",
    "SequenceBias",
    "SuppressAtBegin",
    "TailFree",
    "Temperature",
    "TopA",
    "TopH",
    "TopK",
    "TopNSigma",
    "TopP",
    "Truncation",
    "Typical",
    "Watermark",
    "WatermarkEvidence",
    "as_chain",
    "chain",
    "detect_watermark",
    "from_dict",
    "from_response_format",
    "joint",
    "to_dict",
]
