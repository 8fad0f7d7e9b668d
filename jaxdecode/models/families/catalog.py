"""The families that can be built and read. A new family is one file and one line here."""

from collections.abc import Iterator

from jaxdecode.models.families.gpt2 import GPT2
from jaxdecode.models.families.llama import LLAMA
from jaxdecode.models.families.record import Architecture, Family

FAMILIES: tuple[Family, ...] = (
    LLAMA,
    GPT2,
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
