"""Decoding for language models in JAX: from logits to text, in one compiled program.

Every public name with the module that defines it, grouped by floor. A name is imported
when it is first used, so that the command line can print `--help` without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_CONTENTS = {
    "jaxdecode.core.protocol": ("Model",),
    "jaxdecode.core.status": ("Status",),
    "jaxdecode.core.compile_cache": ("enable_compilation_cache",),
    "jaxdecode.transforms": (
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
        "chain",
        "detect_watermark",
        "from_dict",
        "from_response_format",
        "joint",
        "to_dict",
    ),
    "jaxdecode.sampling": ("apply", "sample"),
    "jaxdecode.models": (
        "from_encoder_decoder",
        "from_function",
        "from_linen",
        "from_logits_function",
        "from_recurrent",
        "from_single",
        "shard",
    ),
    "jaxdecode.decode": (
        "Generation",
        "Score",
        "Stops",
        "contrastive",
        "dola",
        "export",
        "exported_weights",
        "generate",
        "guided",
        "prompts",
        "score",
        "stream",
        "warm_up",
    ),
    "jaxdecode.decode.beam": (
        "GNMT",
        "Beams",
        "Hypothesis",
        "LengthPenalty",
        "Scoring",
        "StochasticBeams",
        "beam_sample",
        "beam_search",
        "stochastic_beam_search",
    ),
    "jaxdecode.text": ("LanguageModel", "load"),
    "jaxdecode.engine": ("Engine",),
}
_HOME = {name: module for module, names in _CONTENTS.items() for name in names}
_MODULES = {
    "presets": "jaxdecode.transforms.presets",
    "testing": "jaxdecode.testing",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'jaxdecode' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])


if TYPE_CHECKING:
    from jaxdecode.core.compile_cache import (
        enable_compilation_cache as enable_compilation_cache,
    )
    from jaxdecode.core.protocol import Model as Model
    from jaxdecode.core.status import Status as Status
    from jaxdecode.decode import *  # noqa: F403
    from jaxdecode.decode.beam import *  # noqa: F403
    from jaxdecode.engine import Engine as Engine
    from jaxdecode.models import from_encoder_decoder as from_encoder_decoder
    from jaxdecode.models import from_function as from_function
    from jaxdecode.models import from_linen as from_linen
    from jaxdecode.models import from_logits_function as from_logits_function
    from jaxdecode.models import from_recurrent as from_recurrent
    from jaxdecode.models import from_single as from_single
    from jaxdecode.models import shard as shard
    from jaxdecode.sampling import apply as apply
    from jaxdecode.sampling import sample as sample
    from jaxdecode.text import LanguageModel as LanguageModel
    from jaxdecode.text import load as load
    from jaxdecode.transforms import *  # noqa: F403
    from jaxdecode.transforms import presets as presets
