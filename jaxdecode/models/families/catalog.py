"""The families that can be built and read. A new family is one file and one line here.

A family's file is imported when the family is asked for: most starts need one of them.
"""

import pkgutil
from collections.abc import Iterator

from jaxdecode.models.families.record import Architecture, Family

FAMILIES = {  # where the record of each is
    "llama": "jaxdecode.models.families.llama:LLAMA",
    "gpt2": "jaxdecode.models.families.gpt2:GPT2",
    "gemma": "jaxdecode.models.families.gemma:GEMMA",
    "granite": "jaxdecode.models.families.granite:GRANITE",
    "mixture": "jaxdecode.models.families.mixture:MIXTURE",
    "olmo2": "jaxdecode.models.families.olmo2:OLMO2",
    "phi3": "jaxdecode.models.families.phi3:PHI3",
    "smollm3": "jaxdecode.models.families.smollm3:SMOLLM3",
    "stablelm": "jaxdecode.models.families.stablelm:STABLELM",
    "starcoder2": "jaxdecode.models.families.starcoder2:STARCODER2",
}


def family_named(name: str) -> Family:
    """Return the record of a family.

    Args:
      name: what `ModelConfig.family` says.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in FAMILIES:
        names = ", ".join(map(repr, FAMILIES))
        raise ValueError(f"family_named: `name` must be one of {names}, got {name!r}.")
    return pkgutil.resolve_name(FAMILIES[name])


def architectures() -> Iterator[tuple[Family, Architecture]]:
    """Yield every architecture with its family, in the order of the records."""
    for family in map(family_named, FAMILIES):
        for architecture in family.architectures:
            yield family, architecture
