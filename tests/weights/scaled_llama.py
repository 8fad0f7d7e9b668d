"""A family that the package does not have: a llama whose logits are divided.

It stands for what a person would add: one file with the whole record, and one line in
`catalog.FAMILIES`, here `LINE`. Granite models have such a divisor. `HALVED` is the same
family with blocks of its own.
"""

import dataclasses
from typing import Any, ClassVar

from jaxdecode.models import Llama, ModelConfig
from jaxdecode.models.config import LLAMA_TRAITS, Traits, positive
from jaxdecode.models.families import Architecture, Family, Format
from jaxdecode.models.families import llama as kind
from jaxdecode.models.llama import LlamaBlock

LINE = {"scaled": "tests.weights.scaled_llama:SCALED"}
TRAITS = dataclasses.replace(
    LLAMA_TRAITS, name="scaled", switches=(*LLAMA_TRAITS.switches, "logits_scaling")
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaledConfig(ModelConfig):
    """A config of the llama kind with one more switch.

    Args:
      logits_scaling: what the logits are divided by, > 0.
    """

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "scaled"
    logits_scaling: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        positive(self, "logits_scaling")


class ScaledLlama(Llama):
    """A llama whose logits are divided by a constant."""

    def __call__(self, *args: Any, **options: Any):
        logits, cache = super().__call__(*args, **options)
        return logits / self.config.logits_scaling, cache


class HalvedBlock(LlamaBlock):
    """A block that adds half of what a llama's adds."""

    def __call__(self, x, where, cache, layer):
        longer, cache = super().__call__(x, where, cache, layer)
        return (x + longer) / 2, cache


class HalvedLlama(ScaledLlama):
    """A llama of such blocks."""

    block = HalvedBlock


def module():
    """Return the nnx module."""
    return ScaledLlama


def from_json(raw):
    return kind.from_json(kind.PLAIN, raw) | {
        "logits_scaling": raw.get("logits_scaling", 1.0)
    }


def from_gguf(keys):
    return kind.from_gguf(kind.PLAIN, keys) | {
        "logits_scaling": keys("logit_scale", 1.0)
    }


SCALED = Family(
    traits=TRAITS,
    config=ScaledConfig,
    module=module,
    architectures=(
        Architecture(
            name="scaled",
            folder=Format(
                label="ScaledForCausalLM",
                read=from_json,
                tensors=kind.FOLDER,
                reads=("logits_scaling",),
            ),
            gguf=Format(
                label="scaled",
                read=from_gguf,
                tensors=kind.GGUF,
                reads=("logit_scale",),
            ),
        ),
    ),
)
HALVED = dataclasses.replace(SCALED, module=lambda: HalvedLlama)
