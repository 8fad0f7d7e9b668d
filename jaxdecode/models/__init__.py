"""Floor 3: language models in Flax nnx, and adapters for everyone else's.

The modules are imported when they are first used: a program that is found on disk needs
neither them nor Flax.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxdecode.models.adapters import FunctionModel as FunctionModel
from jaxdecode.models.adapters import RecomputingModel as RecomputingModel
from jaxdecode.models.adapters import from_function as from_function
from jaxdecode.models.adapters import from_logits_function as from_logits_function
from jaxdecode.models.build import assemble as assemble
from jaxdecode.models.build import build as build
from jaxdecode.models.build import laid_out as laid_out
from jaxdecode.models.build import outline as outline
from jaxdecode.models.build import parameter_shapes as parameter_shapes
from jaxdecode.models.build import random_params as random_params
from jaxdecode.models.build import stored_arrays as stored_arrays
from jaxdecode.models.build import words_of as words_of
from jaxdecode.models.config import ModelConfig as ModelConfig
from jaxdecode.models.config import RopeScaling as RopeScaling
from jaxdecode.models.encoder_decoder import EncoderDecoder as EncoderDecoder
from jaxdecode.models.encoder_decoder import (
    from_encoder_decoder as from_encoder_decoder,
)
from jaxdecode.models.frozen import Frozen as Frozen
from jaxdecode.models.frozen import freeze as freeze
from jaxdecode.models.linen import from_linen as from_linen
from jaxdecode.models.recurrent import RecurrentModel as RecurrentModel
from jaxdecode.models.recurrent import from_recurrent as from_recurrent
from jaxdecode.models.shapes import LLAMA_1B as LLAMA_1B
from jaxdecode.models.shapes import LLAMA_8B as LLAMA_8B
from jaxdecode.models.shapes import SHAPES as SHAPES
from jaxdecode.models.shapes import SMOLLM2_135M as SMOLLM2_135M
from jaxdecode.models.sharding import shard as shard
from jaxdecode.models.single import SingleModel as SingleModel
from jaxdecode.models.single import from_single as from_single

if TYPE_CHECKING:
    from jaxdecode.models.gpt2 import GPT2 as GPT2
    from jaxdecode.models.llama import Llama as Llama

_MODULES = {"GPT2": "jaxdecode.models.gpt2", "Llama": "jaxdecode.models.llama"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
