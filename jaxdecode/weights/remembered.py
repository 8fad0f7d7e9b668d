"""Arrays of a lazy mapping that are looked up several times, decoded once if few.

Rounding to int8 reads every matrix three times: to see what it is given, to balance it,
and to round it.
"""

from collections.abc import Iterator, Mapping

import numpy as np

BYTES_MAX = 2**29  # the others are decoded each time, however large a model is


class Remembered(Mapping[str, np.ndarray]):
    """A mapping that keeps the arrays first asked for, as far as there is room.

    Args:
      arrays: makes an array at each look-up.
      bytes_max: how many bytes are kept at most.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], bytes_max: int = BYTES_MAX):
        self._arrays = arrays
        self._left = bytes_max
        self._kept: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._kept:
            return self._kept[name]
        array = self._arrays[name]
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            self._kept[name] = array
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)
