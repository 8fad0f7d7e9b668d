"""One GGUF file, memory-mapped: its metadata as Python values, its tensors as float32.

The header is parsed here and not by `gguf.GGUFReader`, for two reasons. Every count and
length is compared with the rest of the file before it is used, so a hostile file can
neither hang the program nor make it allocate. And parsing takes 0.1 s where the reader
takes 2.7 s on 100 000 strings (measured on the default model). The storage types, their
block sizes and their decoding come from the `gguf` library.
"""

import functools
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from jaxdecode.core.check import short
from jaxdecode.weights.errors import CheckpointError, require_file
from jaxdecode.weights.table import Entry

VERSIONS = (2, 3)
KEY_MAX = 2**16 - 1
STRING_MAX = 2**24
TABLE_MAX = 2**16  # metadata entries, and tensors
ARRAY_ITEMS_MAX = 2**21  # of all arrays together; a vocabulary of 262144 needs 1.3 M
NAME_MAX = 63
DIMS_MAX = 4
LINES_AT_ONCE = 16  # that `gguf.dequantize` decodes at once
NUMBERS_AT_ONCE = 192 * 1024  # of float32: three quarters of a second-level cache

_STRING, _ARRAY, _BOOL, _UINT32 = 8, 9, 7, 4
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q",
    12: "d",
}  # fmt: skip


class GGUFFile:
    """The checked header of a GGUF file and its tensors, decoded one at a time.

    Args:
      path: the file.

    Attributes:
      path: the file.
      metadata: every key and value, arrays as lists.
      tensors: name to shape (rows first), storage type and place.

    Raises:
      FileNotFoundError: if there is no such file.
      CheckpointError: if the file breaks the format or a limit of this module.
    """

    def __init__(self, path: str | Path):
        self.path = require_file(path)
        if self.path.stat().st_size < 24:
            raise CheckpointError(f"{self.path}: too short for a GGUF header.")
        with self.path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.metadata, self.tensors = _Walk(data).header()
        except _Broken as error:
            raise CheckpointError(f"{self.path}: {error}") from None
        self._data = data

    def read(self, name: str) -> np.ndarray:
        """Return one tensor as float32 (a view of the file if stored so)."""
        entry = self.tensors[name]
        if not is_decodable(entry.dtype):
            raise CheckpointError(
                f"{self.path}: tensor {short(name)} has type {entry.dtype}, which cannot "
                "be decoded."
            )
        if entry.elements == 0:
            return np.zeros(entry.shape, np.float32)
        raw = np.frombuffer(self._data, np.uint8, entry.size, entry.start)
        count = entry.elements // entry.shape[-1]
        rows = raw.reshape(_lines(count, entry.shape[-1]), -1)
        return dequantize(rows, GGMLQuantizationType[entry.dtype]).reshape(entry.shape)


def _lines(rows: int, length: int) -> int:
    """Return in how many lines the library is given a tensor of `rows` of `length`.

    It decodes so many lines at once, which are but blocks to it, that numpy is called
    less often for longer ones; a cache still holds what is made of them.
    """
    most = max(1, NUMBERS_AT_ONCE // (LINES_AT_ONCE * length))
    longest = next(n for n in range(min(most, rows), 0, -1) if rows % n == 0)
    return rows // longest


@functools.cache
def is_decodable(dtype: str) -> bool:
    """Return whether the `gguf` library can turn a storage type into float32."""
    kind = GGMLQuantizationType[dtype]
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


class _Broken(Exception):
    """An error in the header; the caller adds the file's name."""


class _Walk:
    """A cursor over the file that never reads beyond its end."""

    def __init__(self, data: mmap.mmap):
        self.data = data
        self.at = 0
        self.kind = -1  # of the value read last
        self.items_left = ARRAY_ITEMS_MAX

    def header(self) -> tuple[dict[str, Any], dict[str, Entry]]:
        if self.data[:4] != b"GGUF":
            raise _Broken("not a GGUF file (wrong magic).")
        self.at = 4
        version = self.scalar("I")
        if version not in VERSIONS:
            raise _Broken(
                f"GGUF version must be 2 or 3, little-endian, got {version:#x}."
            )
        tensors, pairs = self.scalar("Q"), self.scalar("Q")
        for what, count in (("tensors", tensors), ("metadata entries", pairs)):
            if count > TABLE_MAX:
                raise _Broken(f"must have at most {TABLE_MAX} {what}, got {count}.")
        metadata = self.metadata(pairs)
        infos = [self.tensor_info() for _ in range(tensors)]
        return metadata, self.place(infos, _alignment(metadata))

    def metadata(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.string(KEY_MAX)
            if key in found:
                raise _Broken(f"metadata key {short(key)} appears twice.")
            found[key] = self.value(self.scalar("I"), key)
            if key == "general.alignment" and self.kind != _UINT32:
                raise _Broken("general.alignment must be a uint32.")
        return found

    def value(self, kind: int, key: str) -> Any:
        self.kind = kind
        if kind == _STRING:
            return self.string(STRING_MAX)
        if kind == _ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            raise _Broken(f"metadata {short(key)} has an unknown value type {kind}.")
        value = self.scalar(_SCALARS[kind])
        return self.boolean(value, key) if kind == _BOOL else value

    def array(self, key: str) -> list:
        kind, count = self.scalar("I"), self.scalar("Q")
        if count > self.items_left:
            raise _Broken(
                f"arrays hold more than {ARRAY_ITEMS_MAX} items at {short(key)}."
            )
        self.items_left -= count
        if kind == _STRING:
            return [self.string(STRING_MAX) for _ in range(count)]
        if kind == _ARRAY:
            raise _Broken(f"metadata {short(key)} is an array of arrays.")
        if kind not in _SCALARS:
            raise _Broken(f"metadata {short(key)} has an unknown item type {kind}.")
        code = f"<{count}{_SCALARS[kind]}"
        values = struct.unpack(code, self.take(struct.calcsize(code)))
        if kind == _BOOL:
            return [self.boolean(value, key) for value in values]
        return list(values)

    def tensor_info(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self.string(NAME_MAX)
        dims = self.scalar("I")
        if not 1 <= dims <= DIMS_MAX:
            raise _Broken(
                f"tensor {short(name)} must have 1 to {DIMS_MAX} axes, got {dims}."
            )
        shape = tuple(self.scalar("Q") for _ in range(dims))[::-1]
        number, offset = self.scalar("I"), self.scalar("Q")
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise _Broken(
                f"tensor {short(name)} has an unknown type {number}."
            ) from None
        return name, shape, kind, offset

    def place(self, infos: list, alignment: int) -> dict[str, Entry]:
        """Lay the tensors out: one after the other, each on the alignment."""
        start = _round_up(self.at, alignment)
        tensors: dict[str, Entry] = {}
        expected = 0
        for name, shape, kind, offset in infos:
            if name in tensors:
                raise _Broken(f"tensor {short(name)} appears twice.")
            entry = Entry(
                shape, kind.name, start + offset, _bytes_of(name, shape, kind)
            )
            if offset != expected:
                raise _Broken(
                    f"tensor {short(name)} must start at offset {expected}, got {offset}."
                )
            if entry.start + entry.size > len(self.data):
                raise _Broken(f"the file ends inside tensor {short(name)}.")
            expected = _round_up(offset + entry.size, alignment)
            tensors[name] = entry
        return tensors

    def string(self, longest: int) -> str:
        size = self.scalar("Q")
        if size > longest:
            raise _Broken(f"a string of {size} bytes where {longest} is the most.")
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise _Broken("a string is not UTF-8.") from None

    def boolean(self, value: int, key: str) -> bool:
        if value > 1:
            raise _Broken(
                f"metadata {short(key)} must be true or false, got byte {value}."
            )
        return bool(value)

    def scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise _Broken(f"the file ends inside the header (at byte {self.at}).")
        piece = self.data[self.at : end]
        self.at = end
        return piece


def _alignment(metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if alignment <= 0 or alignment & (alignment - 1):
        raise _Broken(f"general.alignment must be a power of two, got {alignment}.")
    return alignment


def _bytes_of(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if shape[-1] % block:
        raise _Broken(
            f"tensor {short(name)}: rows of {kind.name} must be a multiple of {block} "
            f"long, got {shape[-1]}."
        )
    elements = 1
    for axis in shape:
        elements *= axis
    return elements // block * block_bytes


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
