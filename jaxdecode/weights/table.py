"""What one file of tensors holds in any format: names, shapes, storage types.

Opening a file reads and checks its header only; the numbers stay on the disk until a
tensor is asked for.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


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
