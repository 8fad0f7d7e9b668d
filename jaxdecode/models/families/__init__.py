"""Families of models: one record each, in a file of its own; `catalog` lists them."""

from jaxdecode.models.families.errors import CheckpointError as CheckpointError
from jaxdecode.models.families.gguf_keys import GGUFKeys as GGUFKeys
from jaxdecode.models.families.record import Architecture as Architecture
from jaxdecode.models.families.record import Family as Family
from jaxdecode.models.families.record import Format as Format
from jaxdecode.models.families.record import Naming as Naming
