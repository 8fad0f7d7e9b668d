"""A LoRA adapter folder: small matrices that are added to those of its base.

A target's weight W [O, I] becomes `W + scale * B @ A`, A [r, I], B [O, r], when it is
read: the merged model is like any other. Only what is computed exactly as the library
that wrote it (peft) does is taken; other kinds of adapters are refused by their option.

Reference: Hu et al., LoRA, 2021, arXiv 2106.09685; Kalajdzievski, A Rank Stabilization
Scaling Factor for Fine-Tuning with LoRA, 2023, arXiv 2312.03732 (`use_rslora`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecode.core.check import short
from jaxdecode.models.families.json_options import number
from jaxdecode.weights.errors import PICKLES, CheckpointError, listing
from jaxdecode.weights.safetensors_file import SafetensorsFile
from jaxdecode.weights.table import Entry, TensorFile

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FLOATS = ("F32", "F16", "BF16")
FLOAT_MAX = float(np.finfo(np.float32).max)
BASE = "base_model.model."
# Options that change the numbers, with the values that do not.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": (None, "none"),
    "use_dora": (None, False),
    "lora_bias": (None, False),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
    "megatron_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "lora_ga_config": (None,),
    "velora_config": (None,),
    # Others change the base before training, which the file does not hold.
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
}
# The two matrices of a target, by the ends of their names, and whether they are for
# a table, of which A is stored [r, V] and B [W, r].
ENDS = {
    ".lora_A.weight": ("a", False),
    ".lora_B.weight": ("b", False),
    ".lora_embedding_A": ("a", True),
    ".lora_embedding_B": ("b", True),
}
LITERAL = re.compile(r"\^?[\w.]+")


@dataclass(frozen=True)
class _Change:
    """What is added to one stored tensor.

    Attributes:
      a: name of the matrix on the right.
      b: name of the one on the left.
      scale: what their product is multiplied by.
      is_transposed: whether the target is stored [in, out].
    """

    a: str
    b: str
    scale: float
    is_transposed: bool


class Adapted:
    """A file of the base whose tensors are read with the adapter's changes.

    Args:
      file: the file.
      adapter: the adapter's tensors.
      changes: what is added to a tensor, by its name.
      replaced: the adapter's tensor that takes the place of another, by the other's name.
    """

    def __init__(
        self,
        file: TensorFile,
        adapter: TensorFile,
        changes: Mapping[str, _Change],
        replaced: Mapping[str, str],
    ):
        self.path: Path = file.path
        self.tensors: dict[str, Entry] = file.tensors
        self._file = file
        self._adapter = adapter
        self._changes = changes
        self._replaced = replaced

    def read(self, name: str) -> np.ndarray:
        """Return one tensor, float32 where the adapter changes it."""
        if name in self._replaced:
            return self._adapter.read(self._replaced[name])
        value, change = self._file.read(name), self._changes.get(name)
        if change is None:
            return value
        a, b = (self._adapter.read(n).astype(np.float32) for n in (change.a, change.b))
        added = np.float32(change.scale) * (b @ a)
        return value.astype(np.float32) + (added.T if change.is_transposed else added)


def merged(
    files: Mapping[str, TensorFile],
    options: Mapping[str, Any],
    adapter: TensorFile,
    prefix: str = "",
) -> dict[str, TensorFile]:
    """Return which file has each tensor of the base, with the adapter's changes.

    Args:
      files: which file has each tensor of the base.
      options: the adapter's parsed adapter_config.json.
      adapter: its tensors.
      prefix: stands before stored names in some files of the base, not in others.

    Raises:
      CheckpointError: for an adapter that is not supported, or that does not fit.
    """
    _check_options(options)
    found, replaced, problems = _sorted_out(files, adapter, prefix)
    changes = {}
    for target, parts in found.items():
        try:
            changes[target] = _change(options, files[target], target, parts, adapter)
        except CheckpointError as error:
            problems.append(str(error))
    if not changes and not replaced:
        problems.append("it changes nothing")
    if problems:
        raise CheckpointError(
            f"the adapter does not fit the base: {listing(problems)}."
        )
    return {
        name: Adapted(file, adapter, changes, replaced)
        if name in changes or name in replaced
        else file
        for name, file in files.items()
    }


def open_tensors(path: Path | None, folder: Path) -> SafetensorsFile:
    """Open the adapter's tensors.

    Args:
      path: the file, or None if there is none.
      folder: where it should be.

    Raises:
      CheckpointError: if there is no such file, or it is broken.
    """
    if path is not None:
        return SafetensorsFile(path)
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    hint = f" {listing(pickles)} can run code when read and is never opened."
    raise CheckpointError(f"there is no {WEIGHTS}.{hint if pickles else ''}")


def said_of(options: Mapping[str, Any]) -> str:
    """Return what a folder is that holds an adapter alone, and what to do with it."""
    base = options.get("base_model_name_or_path")
    named = f" of {short(base)}" if isinstance(base, str) and base else ""
    return (
        f"this folder holds a LoRA adapter{named} and no model: load the base and give "
        "this folder as `adapter`."
    )


def _check_options(options: Mapping[str, Any]) -> None:
    for name, neutral in NEUTRAL.items():
        value = options.get(name)
        if not any(value == n and type(value) is type(n) for n in neutral):
            raise CheckpointError(
                f"{CONFIG}: `{name}` = {short(value)} is not supported."
            )
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = options.get(name) or {}
        if not isinstance(patterns, dict):
            raise CheckpointError(f"{CONFIG}: `{name}` must be an object.")
        for pattern in patterns:
            if not LITERAL.fullmatch(pattern):
                raise CheckpointError(
                    f"{CONFIG}: `{name}` must hold names of modules, "
                    f"got {short(pattern)}."
                )


def _sorted_out(
    files: Mapping[str, TensorFile], adapter: TensorFile, prefix: str
) -> tuple[dict[str, dict[str, str]], dict[str, str], list[str]]:
    """Return the parts of each change by target, what is replaced, and what fits not."""
    found: dict[str, dict[str, str]] = {}
    replaced: dict[str, str] = {}
    problems = []
    for name, entry in adapter.tensors.items():
        plain = name.removeprefix(BASE)
        end = next((end for end in ENDS if plain.endswith(end)), None)
        if end is None:
            target = plain.replace(".base_layer.", ".")
        else:
            target = plain.removesuffix(end) + ".weight"
        if target not in files:
            target = target.removeprefix(prefix)
        if target not in files:
            problems.append(f"{name} has no counterpart in the base")
        elif entry.dtype not in FLOATS:
            problems.append(f"{name} is {entry.dtype}")
        elif end is not None:
            found.setdefault(target, {})[end] = name
        elif entry.shape != files[target].tensors[target].shape:
            problems.append(f"{name} has another shape than in the base")
        else:
            replaced[target] = name
    both = found.keys() & replaced.keys()
    problems += [f"{target} is replaced and changed" for target in sorted(both)]
    return found, replaced, problems


def _change(
    options: Mapping[str, Any],
    file: TensorFile,
    target: str,
    parts: Mapping[str, str],
    adapter: TensorFile,
) -> _Change:
    kinds = {ENDS[end] for end in parts}
    is_table = ("a", True) in kinds
    if kinds != {("a", is_table), ("b", is_table)}:
        raise CheckpointError(f"{target} needs a matrix A and a matrix B")
    a, b = sorted(parts.values())  # the names differ in that letter only
    (rank, inputs), (outputs, other) = _shape(adapter, a), _shape(adapter, b)
    is_transposed = is_table or options.get("fan_in_fan_out") is True
    shape = (inputs, outputs) if is_transposed else (outputs, inputs)
    stored, module = file.tensors[target].shape, target.removesuffix(".weight")
    expected = _named(options, "rank_pattern", "r", module)
    if rank != other or rank != expected or stored != shape:
        raise CheckpointError(
            f"{target} is {list(stored)}, A {[rank, inputs]}, B {[outputs, other]}, "
            f"the rank {short(expected)}"
        )
    alpha = number("lora_alpha", _named(options, "alpha_pattern", "lora_alpha", module))
    scale = alpha / (math.sqrt(rank) if options.get("use_rslora") is True else rank)
    if abs(scale) > FLOAT_MAX:
        raise CheckpointError(f"{target} has `lora_alpha` {alpha}, which is no float32")
    return _Change(a, b, scale, is_transposed)


def _shape(adapter: TensorFile, name: str) -> tuple[int, int]:
    shape = adapter.tensors[name].shape
    if len(shape) != 2 or not all(shape):
        raise CheckpointError(f"{name} must be a matrix, is {list(shape)}")
    return shape[0], shape[1]


def _named(options: Mapping[str, Any], patterns: str, default: str, module: str) -> Any:
    """Return the value for a module: that of its name's end, or the common one."""
    values, parts = options.get(patterns) or {}, module.split(".")
    ends = {".".join(parts[i:]) for i in range(len(parts))} | {f"^{module}"}
    # Ends are looked up: a file may have as many patterns as the base has modules.
    fitting = {end for end in ends if end in values}
    if not fitting:
        return options.get(default)
    return values[next(pattern for pattern in values if pattern in fitting)]
