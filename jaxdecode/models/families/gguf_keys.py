"""Metadata of a GGUF file under its architecture's name, refused by key if wrong."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from jaxdecode.core.check import short
from jaxdecode.models.families.errors import CheckpointError

TABLE = "token_embd.weight"
_REQUIRED: Any = object()


class HasShape(Protocol):
    """A stored tensor of which the shape is known."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes, slowest first."""
        ...


class Header(Protocol):
    """The part of an opened GGUF file that describes a model."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Every key and value."""
        ...

    @property
    def tensors(self) -> Mapping[str, HasShape]:
        """Every tensor by its stored name."""
        ...

    def read(self, name: str) -> np.ndarray:
        """Return one tensor as float32."""
        ...


class GGUFKeys:
    """The metadata under the prefix of the architecture.

    Args:
      file: the opened file; its tensors tell what the metadata does not.
      arch: the value of `general.architecture`.
    """

    def __init__(self, file: Header, arch: str):
        self.file = file
        self.arch = arch

    def __call__(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a value.

        Args:
          name: the key without the prefix.
          default: what an absent key counts as.

        Raises:
          CheckpointError: if a key without default is absent, or the value is a list.
        """
        value = self.file.metadata.get(f"{self.arch}.{name}", default)
        if value is _REQUIRED:
            raise CheckpointError(f"metadata `{self.arch}.{name}` is missing.")
        if isinstance(value, list):
            raise CheckpointError(f"`{self.arch}.{name}` per layer is not supported.")
        if isinstance(value, float):
            with np.errstate(over="ignore"):  # a double beyond float32 is infinite
                return float(str(np.float32(value)))  # 1e-05, not 9.99999974e-06
        return value

    def must_be(self, name: str, neutral: tuple[Any, ...]) -> None:
        """Check that a key is absent or has one of the values that change nothing.

        Raises:
          CheckpointError: if it has another value.
        """
        value = self(name, None)
        if value is not None and value not in neutral:
            raise CheckpointError(
                f"metadata `{self.arch}.{name}` = {short(value)} is not supported."
            )

    def has(self, name: str) -> bool:
        """Return whether the file has a tensor of that name."""
        return name in self.file.tensors


def layers_of(keys: GGUFKeys) -> int:
    """Return the number of layers, bounded by the tensors because layers are enumerated.

    Raises:
      CheckpointError: if it is missing or out of range.
    """
    count, most = keys("block_count"), len(keys.file.tensors)
    if type(count) is not int or not 1 <= count <= most:
        raise CheckpointError(
            f"metadata `{keys.arch}.block_count` must be in [1, {most}], the number of "
            f"tensors, got {short(count)}."
        )
    return count


def sizes(keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a config that every family reads alike.

    Raises:
      CheckpointError: for a missing key, or a file without an embedding table.
    """
    table = keys.file.tensors.get(TABLE)
    if table is None or len(table.shape) != 2:
        raise CheckpointError(f"there is no tensor {TABLE} of two axes.")
    keys.must_be("vocab_size", (table.shape[0],))
    return {
        "vocab_size": table.shape[0],
        "max_length": keys("context_length"),
        "width": keys("embedding_length"),
        "mlp_width": keys("feed_forward_length"),
        "num_layers": keys("block_count"),
        "num_heads": keys("attention.head_count"),
        "tied_output": not keys.has("output.weight"),
    }
