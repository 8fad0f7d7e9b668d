"""What a family of models is: its config, its module, and how checkpoints store it.

A record is plain data and pure functions of what a file says; it opens no file. The
weights floor finds the record that a checkpoint names, and does the reading.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from jaxdecode.models.config import ModelConfig, Traits
from jaxdecode.models.families.gguf_keys import GGUFKeys
from jaxdecode.models.families.storage import Rule, as_stored

if TYPE_CHECKING:
    from jaxdecode.models.decoder import Decoder

Description = TypeVar("Description")


@dataclass(frozen=True, kw_only=True, eq=False)
class Naming:
    """How a file format names and stores the tensors of a family.

    Attributes:
      names: the stored name of each of our names, without `.weight` and `.bias`. Names
        of a block are relative to it, such as "attention.q".
      blocks: the stored name of the list of blocks, such as "model.layers".
      rule: the stored shape of each tensor, and how it becomes ours.
      prefix: stands before every stored name in some files and is absent in others.
      unprefixed: our names that never have the prefix.
      ignored: pattern of stored tensors that are computed from the config, not weights.
    """

    names: Mapping[str, str]
    blocks: str
    rule: Rule = as_stored
    prefix: str = ""
    unprefixed: tuple[str, ...] = ()
    ignored: re.Pattern[str] = re.compile("(?!)")  # matches nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class Format(Generic[Description]):
    """How one file format describes an architecture.

    Attributes:
      label: what the format calls it, such as "LlamaForCausalLM".
      read: from the file's description to the fields of the config, without `family`.
      tensors: names and storage of its tensors.
      applies: whether it is the one for a file, where another format has the same label.
      reads: options that `read` understands, of those that are refused in general
        because they change the numbers.
    """

    label: str
    read: Callable[[Description], dict[str, Any]]
    tensors: Naming
    reads: tuple[str, ...] = ()
    applies: Callable[[Any], bool] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Architecture:
    """One published architecture of a family.

    Attributes:
      name: its short name, the `model_type` of a config.json.
      folder: its form in Hugging Face folders, described by config.json; or None.
      gguf: its form in GGUF files; None if they do not know it under a name of its own.
    """

    name: str
    folder: Format[Mapping[str, Any]] | None = None
    gguf: Format[GGUFKeys] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Everything that is particular to a family of models.

    Attributes:
      traits: what a config must know of it, its name included.
      config: the class of its configs: `ModelConfig`, or a subclass whose `families`
        has `traits` and which adds the switches that only this family has.
      module: returns the class of the nnx module, made from `(config, dtype=...,
        rngs=...)`. A function with a name, by which programs are found on disk; if it
        imports the class, a program that is found needs no Flax.
      architectures: what checkpoints of the family call themselves.
    """

    traits: Traits
    config: type[ModelConfig]
    module: "Callable[[], type[Decoder]]"
    architectures: tuple[Architecture, ...] = ()

    @property
    def name(self) -> str:
        """What `ModelConfig.family` says."""
        return self.traits.name
