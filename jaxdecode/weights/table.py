"""What one file of tensors holds, whatever its format: names, shapes, storage types.

Opening a file reads and checks its header only; the numbers stay on the disk until a
tensor is asked for.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxdecode.weights.errors import CheckpointError, require_file


@dataclass(frozen=True)
class Entry:
    """One tensor's place in a file.

    Attributes:
      shape: its axes, slowest first.
      dtype: the format's own name of the storage type, such as "BF16" or "Q8_0".
      start: offset of the first byte in the file.
      size: number of bytes.
    """

    shape: tuple[int, ...]
    dtype: str
    start: int
    size: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class TensorFile(Protocol):
    """A file whose header was checked and whose tensors can be read one by one."""

    path: Path
    tensors: dict[str, Entry]

    def read(self, name: str) -> np.ndarray:
        """Return one tensor as float32, float16 or bfloat16."""
        ...


def open_file(path: str | Path) -> TensorFile:
    """Open a `.safetensors` or `.gguf` file and check its whole header.

    Args:
      path: the file; the ending decides the format.

    Returns:
      The file's table and a way to read single tensors.

    Raises:
      FileNotFoundError: if there is no such file.
      CheckpointError: for a broken file or another format.
    """
    path = require_file(path)
    if path.suffix == ".safetensors":
        from jaxdecode.weights.safetensors_file import SafetensorsFile

        return SafetensorsFile(path)
    if path.suffix == ".gguf":
        from jaxdecode.weights.gguf_file import GGUFFile

        return GGUFFile(path)
    raise CheckpointError(
        f"{path}: weights must be a .safetensors or .gguf file; pickle files (.bin, "
        ".pt, .pth, .ckpt) can run code when read and are never opened."
    )


def read_table(path: str | Path) -> dict[str, Entry]:
    """Return the checked table of tensors of one `.safetensors` or `.gguf` file."""
    return dict(open_file(path).tensors)
