"""The families that can be built and read. A new family is one file and one line here."""

from collections.abc import Iterator

from jaxdecode.models.families.gemma import GEMMA
from jaxdecode.models.families.gpt2 import GPT2
from jaxdecode.models.families.granite import GRANITE
from jaxdecode.models.families.llama import LLAMA
from jaxdecode.models.families.mixture import MIXTURE
from jaxdecode.models.families.olmo2 import OLMO2
from jaxdecode.models.families.phi3 import PHI3
from jaxdecode.models.families.record import Architecture, Family
from jaxdecode.models.families.smollm3 import SMOLLM3
from jaxdecode.models.families.stablelm import STABLELM
from jaxdecode.models.families.starcoder2 import STARCODER2

FAMILIES: tuple[Family, ...] = (
    LLAMA,
    GPT2,
    GEMMA,
    GRANITE,
    MIXTURE,
    OLMO2,
    PHI3,
    SMOLLM3,
    STABLELM,
    STARCODER2,
)


def family_named(name: str) -> Family:
    """Return the record of a family.

    Args:
      name: what `ModelConfig.family` says.

    Raises:
      ValueError: for an unknown name.
    """
    for family in FAMILIES:
        if family.name == name:
            return family
    names = ", ".join(repr(family.name) for family in FAMILIES)
    raise ValueError(f"family_named: `name` must be one of {names}, got {name!r}.")


def architectures() -> Iterator[tuple[Family, Architecture]]:
    """Yield every architecture with its family, in the order of the records."""
    for family in FAMILIES:
        for architecture in family.architectures:
            yield family, architecture
