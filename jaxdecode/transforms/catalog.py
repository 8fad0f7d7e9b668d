"""Every link of the package, by the name under which a chain is saved."""

from jaxdecode.transforms.base import Link
from jaxdecode.transforms.cutoffs import EpsilonCutoff, EtaCutoff, PLess, TopA
from jaxdecode.transforms.feedback import AdaptiveP, Mirostat
from jaxdecode.transforms.forcing import (
    AllowTokens,
    ExponentialDecayLength,
    ForcedTokens,
    SuppressAtBegin,
)
from jaxdecode.transforms.ngrams import DRY, NoRepeatNGram
from jaxdecode.transforms.penalties import (
    EncoderRepetition,
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
)
from jaxdecode.transforms.scale import DynamicTemperature, Quadratic, Temperature
from jaxdecode.transforms.sequences import BanSequences, SequenceBias
from jaxdecode.transforms.shape import TailFree, TopNSigma
from jaxdecode.transforms.truncation import MinP, TopK, TopP
from jaxdecode.transforms.typicality import TopH, Typical
from jaxdecode.transforms.vocabulary import BanTokens, LogitBias, MinNewTokens
from jaxdecode.transforms.watermark import Watermark
from jaxdecode.transforms.xtc import XTC

_ALL: tuple[type[Link], ...] = (
    # scales
    *(Temperature, DynamicTemperature, Quadratic),
    # truncations
    *(TopK, TopP, MinP, Typical, TopH, EpsilonCutoff, EtaCutoff, TopA, PLess),
    *(TopNSigma, TailFree, XTC, Mirostat, AdaptiveP),
    # edits of tokens that occurred
    *(RepetitionPenalty, FrequencyPenalty, PresencePenalty, EncoderRepetition),
    *(DRY, NoRepeatNGram),
    # edits of named tokens and sequences
    *(LogitBias, BanTokens, AllowTokens, SequenceBias, BanSequences),
    *(MinNewTokens, SuppressAtBegin, ForcedTokens, ExponentialDecayLength, Watermark),
)
LINKS: dict[str, type[Link]] = {kind.__name__: kind for kind in _ALL}
