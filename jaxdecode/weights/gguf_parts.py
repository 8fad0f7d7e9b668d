"""A GGUF file in several parts, `name-00001-of-00003.gguf` and so on, read as one.

The first part has the metadata of the model; every part has a header of its own with its
tensors and its place among the parts. Any part leads to all.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxdecode.weights.errors import CheckpointError, listing
from jaxdecode.weights.gguf_file import GGUFFile
from jaxdecode.weights.part_names import part_paths
from jaxdecode.weights.table import Entry, TensorFile

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


class GGUFParts:
    """The checked headers of all parts of a file, and their tensors.

    Args:
      paths: the parts, in order.

    Attributes:
      path: the first part.
      metadata: every key and value of the first part.
      tensors: name to shape, storage type and place in its part.
      files: which part has each tensor.

    Raises:
      CheckpointError: if a part is missing, broken, or not the one that its name says.
    """

    def __init__(self, paths: list[Path]):
        self.path = paths[0]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise CheckpointError(
                f"{self.path.parent}: of {len(paths)} parts of a GGUF file these are "
                f"missing: {listing(missing)}."
            )
        parts = [GGUFFile(path) for path in paths]
        self.metadata: dict[str, Any] = parts[0].metadata
        self.tensors: dict[str, Entry] = {}
        self.files: dict[str, TensorFile] = {}
        for number, part in enumerate(parts):
            _check_place(part, number, len(parts))
            self._add(part)
        expected = self.metadata.get(TENSORS, len(self.tensors))
        if expected != len(self.tensors):
            raise CheckpointError(
                f"{self.path}: the parts must have {expected} tensors altogether, got "
                f"{len(self.tensors)}."
            )

    def read(self, name: str) -> np.ndarray:
        """Return one tensor as float32."""
        return self.files[name].read(name)

    def _add(self, part: GGUFFile) -> None:
        for name, entry in part.tensors.items():
            if name in self.tensors:
                raise CheckpointError(
                    f"{part.path}: tensor {name!r} is in {self.files[name].path.name} "
                    "too."
                )
            self.tensors[name], self.files[name] = entry, part


def open_parts(path: str | Path) -> GGUFFile | GGUFParts:
    """Open a GGUF file, or all parts of the one that a path is a part of.

    Raises:
      FileNotFoundError: if there is no file at `path`.
      CheckpointError: for a broken file, or a part without the others.
    """
    paths = part_paths(path)
    if len(paths) > 1:
        return GGUFParts(paths)
    file = GGUFFile(path)
    count = file.metadata.get(COUNT, 1)
    if count not in (0, 1):
        raise CheckpointError(
            f"{file.path}: is one of {count} parts; their names must end in "
            f"-00001-of-{_digits(count)}.gguf and so on for the others to be found."
        )
    return file


def _check_place(part: GGUFFile, number: int, count: int) -> None:
    found = (part.metadata.get(NUMBER), part.metadata.get(COUNT))
    if found != (number, count):
        raise CheckpointError(
            f"{part.path}: must be part {number} of {count} ({NUMBER}, {COUNT}), as its "
            f"name says, got {found[0]} of {found[1]}."
        )


def _digits(count: Any) -> str:
    return f"{count:05}" if isinstance(count, int) else "..."
