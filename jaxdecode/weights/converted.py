"""Converted weights kept as safetensors, so that a GGUF file is decoded only once.

A kept file is used if it was made by this user and this version from the same source
(path and hash), has exactly the tensors of its config, and their sums are right.
Otherwise it is made again. It is written beside its place and moved there in one step: a
reader sees the old file or the new one, and of two writers the last one wins. Tensors
start at multiples of 64 bytes, so that a CPU device can use the mapped file without a
copy.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxdecode.core.cache_folder import cache_folder, is_ours, sweep
from jaxdecode.models import parameter_shapes, stored_arrays
from jaxdecode.models.config import ModelConfig, RopeScaling
from jaxdecode.models.families.catalog import family_named
from jaxdecode.weights.checkpoint import Checkpoint, TokenizerSource
from jaxdecode.weights.errors import CheckpointError
from jaxdecode.weights.hashes import sha256_of
from jaxdecode.weights.opening import open_checkpoint
from jaxdecode.weights.part_names import part_paths
from jaxdecode.weights.safetensors_file import SafetensorsFile

VERSION = 3  # raise it when the same source would give other contents
ALIGNMENT = 64
WRITING = ".writing-"
TOKENIZER = "tokenizer.json"  # a tensor of bytes; our parameters end in weight or bias
STORED = {
    "float32": ("F32", np.dtype(np.float32)),
    "bfloat16": ("BF16", np.dtype(ml_dtypes.bfloat16)),
}


_KINDS = {kind: name for name, kind in STORED.values()}
LAYOUT = "panels"  # that of `native.Panels`


def open_converted(
    path: str | Path,
    dtype: str,
    *,
    lay_out: Callable[[Checkpoint], Mapping[str, np.ndarray]] | None = None,
) -> Checkpoint:
    """Open a GGUF file through its converted copy, making the copy if necessary.

    Args:
      path: the `.gguf` file.
      dtype: "float32" or "bfloat16", the type of the matrices in the copy; with
        `lay_out` also "int8".
      lay_out: makes the arrays that the kernels read, `stored_arrays` of the config; the
        copy then holds these. None for plain matrices.

    Returns:
      The model; its tensors are views of the mapped copy. If the cache folder cannot be
      written, a warning says so and the tensors are decoded from the file itself.

    Raises:
      FileNotFoundError: if there is no file at `path`.
      CheckpointError: if the GGUF file is broken or not supported.
    """
    path = Path(path)
    laid_out = lay_out is not None
    identity = _identity(path, dtype, laid_out)
    place = converted_place(path, dtype, laid_out=laid_out)
    found = _read(place, identity)
    if found is not None:
        return found
    checkpoint = open_checkpoint(path)
    if lay_out is not None:
        checkpoint = dataclasses.replace(checkpoint, tensors=lay_out(checkpoint))
    try:
        _write(place, checkpoint, identity)
        if (
            _identity(path, dtype, lay_out is not None) != identity
        ):  # it was replaced while it was read
            place.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(
            f"{place}: converted weights could not be kept ({error}); {path} will be "
            "decoded again next time.",
            stacklevel=2,
        )
        return checkpoint
    return _read(place, identity) or checkpoint


def converted_place(path: str | Path, dtype: str, *, laid_out: bool = False) -> Path:
    """Return where the converted copy of a file is kept; it depends on the path only."""
    resolved = str(part_paths(path)[0].resolve())  # one copy, whatever the part
    mark = hashlib.sha256(resolved.encode()).hexdigest()[:16]
    kind = f"{dtype}-{LAYOUT}" if laid_out else dtype
    name = f"{part_paths(path)[0].stem}-{kind}-{mark}.safetensors"
    return cache_folder() / "converted" / name


def storage(shape: tuple[int, ...], dtype: str) -> str:
    """Return the type a parameter is kept in: norms and biases stay float32."""
    return "float32" if len(shape) == 1 else dtype


class _Parameters(Mapping[str, np.ndarray]):
    """The tensors of a converted file without the tokenizer's bytes."""

    def __init__(self, file: SafetensorsFile, slots: dict[str, "_Slot"]):
        self._file = file
        self._slots = slots
        self._names = tuple(name for name in slots if name != TOKENIZER)

    def __getitem__(self, name: str) -> np.ndarray:
        stored, slot = self._file.read(name), self._slots[name]
        return stored if stored.dtype == slot.dtype else stored.view(slot.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _identity(path: Path, dtype: str, laid_out: bool) -> dict[str, Any]:
    if dtype not in STORED and not laid_out:
        raise ValueError(
            f"open_converted: `dtype` must be one of {', '.join(STORED)}, got {dtype!r}."
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    layout = {"layout": LAYOUT} if laid_out else {}
    return layout | {
        "version": VERSION,
        "dtype": dtype,
        "path": str(part_paths(path)[0].resolve()),
        "sha256": [sha256_of(part) for part in part_paths(path) if part.exists()],
    }


def _read(place: Path, identity: dict[str, Any]) -> Checkpoint | None:
    """Open a kept file, or return None if it is absent or anything about it is wrong."""
    if not is_ours(place):
        return None
    try:
        file = SafetensorsFile(place)
        return _checked(file, identity)
    except (CheckpointError, OSError, KeyError, TypeError, ValueError):
        return None


def _checked(file: SafetensorsFile, identity: dict[str, Any]) -> Checkpoint | None:
    if file.metadata["seal"] != _seal(file.metadata):
        return None
    if json.loads(file.metadata["identity"]) != identity:
        return None
    facts = json.loads(file.metadata["facts"])
    sums = json.loads(file.metadata["sums"])
    config = _config(facts.pop("config"))
    blob = file.read(TOKENIZER) if TOKENIZER in sums else None
    slots = _slots(config, identity, blob)
    found = {n: (entry.shape, entry.dtype) for n, entry in file.tensors.items()}
    if found != {name: (slot.stored, slot.kind) for name, slot in slots.items()}:
        return None
    if any(_sum(file.read(name)) != sums[name] for name in slots):
        return None
    facts["eos_ids"] = tuple(facts["eos_ids"])
    if blob is not None:
        facts["tokenizer"] = TokenizerSource(
            "gguf", metadata=json.loads(blob.tobytes())
        )
    tensors = _Parameters(file, slots)
    return Checkpoint(config=config, tensors=tensors, shareable=True, **facts)


def _write(place: Path, checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent, WRITING)
    draft = place.parent / f"{WRITING}{uuid.uuid4().hex}"
    try:
        with draft.open("xb") as file:
            _write_file(file, checkpoint, identity)
            _forget(file)
        os.replace(draft, place)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _write_file(
    file: BinaryIO, checkpoint: Checkpoint, identity: dict[str, Any]
) -> None:
    """Write header and tensors, one tensor in memory at a time.

    The sums are known only at the end: the header is written twice, at one length.
    """
    blob = _tokenizer_bytes(checkpoint)
    slots = _slots(checkpoint.config, identity, blob)
    sums = dict.fromkeys(slots, "0" * 16)
    file.write(_header(checkpoint, identity, slots, sums))
    for name, slot in slots.items():
        value = blob if name == TOKENIZER else checkpoint.tensors[name]
        data = np.ascontiguousarray(value, slot.dtype)
        sums[name] = _sum(data)
        file.write(data.reshape(-1).view(np.uint8).data)
    file.seek(0)
    file.write(_header(checkpoint, identity, slots, sums))


def _forget(file: BinaryIO) -> None:
    """Make the system read a file from the disk the next time.

    What was written stays in its memory in small pages; what is read for a map that asks
    for them comes in large ones (`SafetensorsFile`), which the kernels read faster.
    """
    file.flush()
    os.fsync(file.fileno())
    with contextlib.suppress(AttributeError, OSError):  # another system: only slower
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@dataclasses.dataclass(frozen=True)
class _Slot:
    """One tensor to be written."""

    shape: tuple[int, ...]
    kind: str
    dtype: np.dtype

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape in the file, which knows the words of panels as bytes only."""
        if self.kind != "U8":
            return self.shape
        return *self.shape[:-1], self.shape[-1] * self.dtype.itemsize

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _slots(
    config: ModelConfig, identity: dict[str, Any], blob: np.ndarray | None
) -> dict[str, _Slot]:
    dtype = identity["dtype"]
    if "layout" in identity:
        slots = {
            name: _Slot(shape, _KINDS.get(kind, "U8"), kind)
            for name, (shape, kind) in stored_arrays(config, dtype).items()
        }
    else:
        slots = {
            name: _Slot(shape, *STORED[storage(shape, dtype)])
            for name, shape in parameter_shapes(config, dtype).items()
        }
    if blob is not None:
        slots[TOKENIZER] = _Slot(blob.shape, "U8", blob.dtype)
    # Whole multiples of the alignment first: they keep each other aligned.
    return dict(sorted(slots.items(), key=lambda item: item[1].size % ALIGNMENT != 0))


def _header(
    checkpoint: Checkpoint,
    identity: dict[str, Any],
    slots: dict[str, _Slot],
    sums: dict[str, str],
) -> bytes:
    facts = {
        "config": dataclasses.asdict(checkpoint.config),
        "eos_ids": checkpoint.eos_ids,
        "bos_id": checkpoint.bos_id,
        "pad_id": checkpoint.pad_id,
        "chat_template": checkpoint.chat_template,
        "special_texts": checkpoint.special_texts,
        "sampling": checkpoint.sampling,
        "name": checkpoint.name,
    }
    parts = {"identity": identity, "facts": facts, "sums": sums}
    metadata = {key: json.dumps(value) for key, value in parts.items()}
    header: dict[str, Any] = {"__metadata__": metadata | {"seal": _seal(metadata)}}
    at = 0
    for name, slot in slots.items():
        header[name] = {
            "dtype": slot.kind,
            "shape": slot.stored,
            "data_offsets": (at, at + slot.size),
        }
        at += slot.size
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _seal(metadata: Mapping[str, str]) -> str:
    text = "\n".join(metadata[key] for key in ("identity", "facts", "sums"))
    return hashlib.sha256(text.encode()).hexdigest()


def _config(values: dict[str, Any]) -> ModelConfig:
    if values["rope_scaling"] is not None:
        values["rope_scaling"] = RopeScaling(**values["rope_scaling"])
    for name, value in values.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    return family_named(values["family"]).config(**values)


def _tokenizer_bytes(checkpoint: Checkpoint) -> np.ndarray | None:
    if checkpoint.tokenizer is None:
        return None
    text = json.dumps(checkpoint.tokenizer.metadata, ensure_ascii=False)
    return np.frombuffer(text.encode(), np.uint8)


def _sum(array: np.ndarray) -> str:
    """Add up the words of an array modulo 2**64: finds any torn page or flipped bit.

    538 MB take 50 ms, a tenth of what a cryptographic hash would, and the pages are
    needed in memory anyway.
    """
    data = array.reshape(-1).view(np.uint8)
    whole = len(data) // 8 * 8
    total = int(np.add.reduce(data[:whole].view(np.uint64), dtype=np.uint64))
    tail = int.from_bytes(data[whole:].tobytes(), "little")
    return f"{(total + tail) % 2**64:016x}"
