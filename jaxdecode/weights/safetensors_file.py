"""One safetensors file, memory-mapped.

The `safetensors` library checks the header (lengths, overlaps, holes, overflow). This
file adds a limit on the header's size, which bounds time and memory, and an error for
repeated names, of which the library would keep one at random. Tensors are views of the
mapped file: nothing is copied, and a device can use an aligned one as it is.
"""

import contextlib
import json
import mmap
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxdecode.core.check import short
from jaxdecode.core.refusing import refusing
from jaxdecode.weights.errors import CheckpointError, listing, require_file
from jaxdecode.weights.table import Entry

# A tensor takes about 100 bytes of header; the largest open models have some 30 000.
HEADER_MAX = 8 * 2**20
AXES_MAX = 8
DTYPES = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U8": np.dtype("u1"),
}


class SafetensorsFile:
    """The checked header of a safetensors file and views of its tensors.

    Args:
      path: the file.

    Attributes:
      path: the file.
      tensors: name to shape, storage type and place.
      metadata: the strings under `__metadata__`.

    Raises:
      FileNotFoundError: if there is no such file.
      CheckpointError: if the file breaks the format.
    """

    def __init__(self, path: str | Path):
        self.path = require_file(path)
        self._bytes = _map(self.path)
        with refusing(CheckpointError, f"{self.path}: not a valid safetensors file"):
            header, data_start = _read_header(self.path, self._bytes)
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        self.tensors = {
            name: Entry(
                shape=tuple(info["shape"]),
                dtype=info["dtype"],
                start=data_start + info["data_offsets"][0],
                size=info["data_offsets"][1] - info["data_offsets"][0],
            )
            for name, info in header.items()
        }

    def read(self, name: str) -> np.ndarray:
        """Return one tensor as a read-only view of the file."""
        entry = self.tensors[name]
        if entry.dtype not in DTYPES:
            raise CheckpointError(
                f"{self.path}: tensor {name!r} must be one of {', '.join(DTYPES)}, "
                f"got {entry.dtype}."
            )
        data = self._bytes[entry.start : entry.start + entry.size]
        return data.view(DTYPES[entry.dtype]).reshape(entry.shape)


def _map(path: Path) -> np.ndarray:
    if path.stat().st_size < 8:
        raise CheckpointError(f"{path}: too short for a safetensors header.")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Large pages: products of a row with bfloat16 weights then take 0.89 of the time
    # (busy machine, 2026-11). Another system may not know them.
    with contextlib.suppress(AttributeError, OSError):
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.uint8)


def _read_header(path: Path, data: np.ndarray) -> tuple[dict, int]:
    size = int.from_bytes(data[:8].tobytes(), "little")
    if size > HEADER_MAX:
        raise CheckpointError(
            f"{path}: the header must be at most {HEADER_MAX} bytes, got {size}."
        )
    raw = data[8 : 8 + size].tobytes()
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise CheckpointError(
            f"{path}: not a valid safetensors file: {reason}."
        ) from error
    repeated: list[str] = []

    def unique(pairs):
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            repeated.extend(sorted(name for name, n in counts.items() if n > 1))
        return found

    header = json.loads(raw, object_pairs_hook=unique)
    if repeated:
        raise CheckpointError(f"{path}: names must be unique: {listing(repeated)}.")
    for name, info in header.items():
        if name != "__metadata__" and len(info["shape"]) > AXES_MAX:
            raise CheckpointError(
                f"{path}: tensor {short(name)} must have at most {AXES_MAX} axes, got "
                f"{len(info['shape'])}."
            )
    return header, 8 + size
