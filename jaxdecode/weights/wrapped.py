"""Tensors under the names of the model itself, where a wrapper saved them.

`torch.compile` and data parallel wrappers put their own names in front of, or into, the
names of a model's tensors.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxdecode.weights.errors import CheckpointError
from jaxdecode.weights.table import Entry, TensorFile

COMPILED = "_orig_mod"  # at any place of a name
PARALLEL = "module"  # only in front


class Renamed:
    """A file whose tensors go by other names.

    Args:
      file: the file.
      names: its names by the new ones.
    """

    def __init__(self, file: TensorFile, names: Mapping[str, str]):
        self.path: Path = file.path
        self.tensors: dict[str, Entry] = {
            name: file.tensors[stored] for name, stored in names.items()
        }
        self._file = file
        self._names = names

    def read(self, name: str) -> np.ndarray:
        """Return one tensor, by its new name."""
        return self._file.read(self._names[name])


def without_wrappers(files: Mapping[str, TensorFile]) -> dict[str, TensorFile]:
    """Return which file has each tensor, by the names that the model itself gives them.

    Args:
      files: which file has each tensor, by stored names.

    Raises:
      CheckpointError: if two tensors would have one name.
    """
    names: dict[str, str] = {}
    for stored in files:
        name = unwrapped(stored)
        if name in names:
            raise CheckpointError(
                f"{names[name]} and {stored} are both {name} without the wrapper's name."
            )
        names[name] = stored
    return {
        name: files[stored]
        if name == stored
        else Renamed(files[stored], {name: stored})
        for name, stored in names.items()
    }


def unwrapped(name: str) -> str:
    """Return the name of a tensor without those of wrappers."""
    parts = [part for part in name.split(".") if part != COMPILED]
    while len(parts) > 1 and parts[0] == PARALLEL:
        parts = parts[1:]
    return ".".join(parts)
