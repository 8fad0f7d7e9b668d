"""From a path to a model that runs: open, convert to the storage type, build."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.models import Frozen, ModelConfig, assemble, build, laid_out
from jaxdecode.native import begin_to_build, is_available
from jaxdecode.weights.checkpoint import Checkpoint, Facts
from jaxdecode.weights.converted import STORED, open_converted, storage
from jaxdecode.weights.opening import open_checkpoint
from jaxdecode.weights.remembered import Remembered


@dataclass(frozen=True, kw_only=True)
class LoadedWeights(Facts):
    """A model in memory and what is known of it.

    Attributes:
      model: the model, with the `Model` protocol.
    """

    model: Frozen


def load_model(
    path: str | Path,
    dtype: str = "float32",
    *,
    adapter: str | Path | None = None,
    max_length: int | None = None,
    calibrate: Callable[[Checkpoint], np.ndarray | None] = lambda checkpoint: None,
) -> LoadedWeights:
    """Load a model from a local folder or `.gguf` file.

    A GGUF file is decoded once; later calls use its converted copy in the cache folder,
    which lies as the kernels read it where they are available.

    Args:
      path: a folder in Hugging Face form, or a `.gguf` file; `resolve` finds it for a
        name.
      dtype: "float32", "bfloat16" or "int8", the type of the matrices. Norms and
        biases stay float32.
      adapter: a LoRA adapter folder, merged into the folder's weights.
      max_length: how many positions the model is to hold, instead of what the checkpoint
        says. It decides which frequencies a model with two sets of them has
        (`RopeScaling` "longrope").
      calibrate: for int8, returns the tokens [B, S] that `build` reads first.

    Returns:
      The model, its config, tokenizer source, special ids and chat template.

    Raises:
      FileNotFoundError: if there is nothing at `path`.
      CheckpointError: for a broken, incomplete or unsupported checkpoint.
      ValueError: for another dtype.
    """
    check.choice("load_model", "dtype", dtype, (*STORED, "int8"))
    path = Path(path)
    read_as = "float32" if dtype == "int8" else dtype  # quantised from exact weights
    is_file = path.suffix == ".gguf" and path.is_file() and adapter is None
    # The kernels are compiled while a file is decoded, for the layout that they read.
    are_expected = begin_to_build()
    if is_file and max_length is None and are_expected:

        def lay_out(checkpoint):
            return _made(laid_out, checkpoint, dtype, calibrate)

        checkpoint = open_converted(path, dtype, lay_out=lay_out)
        if is_available():
            model = assemble(checkpoint.config, dtype, checkpoint.tensors)
            return LoadedWeights(model=model, **_facts(checkpoint))
    if is_file:
        checkpoint = open_converted(path, read_as)
    else:
        checkpoint = open_checkpoint(path, adapter)
    if max_length is not None:
        config = _with_room(checkpoint.config, max_length)
        checkpoint = replace(checkpoint, config=config)
    model = _made(build, checkpoint, dtype, calibrate)
    return LoadedWeights(model=model, **_facts(checkpoint))


def _made(
    make: Callable[..., Any],
    checkpoint: Checkpoint,
    dtype: str,
    calibrate: Callable[..., Any],
) -> Any:
    """Call `build` or `laid_out` for a checkpoint."""
    if dtype != "int8":
        return make(checkpoint.config, _OnDevice(checkpoint, dtype), dtype)
    tensors, calibration = Remembered(checkpoint.tensors), calibrate(checkpoint)
    return make(checkpoint.config, tensors, dtype, calibration=calibration)


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    return {f.name: getattr(checkpoint, f.name) for f in fields(Facts)}


def _with_room(config: ModelConfig, max_length: int) -> ModelConfig:
    """Return the config for that many positions, of which no learned one is missing."""
    check.whole("load_model", "max_length", max_length, low=1)
    if not config.is_rotary and max_length != config.max_length:
        raise ValueError(
            f"load_model: `max_length` must be {config.max_length}, the positions that "
            f"the model has learned, got {max_length}."
        )
    return replace(config, max_length=max_length)


class _OnDevice(Mapping[str, jax.Array]):
    """The tensors of a checkpoint as device arrays of their storage type.

    On CPU an aligned array of a file of ours is not copied: 538 MB take 15 ms. Arrays of
    a user's file are copied, since the file may change while it is mapped.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str):
        self._tensors = checkpoint.tensors
        self._copy = not checkpoint.shareable
        self._dtype = dtype

    def __getitem__(self, name: str) -> jax.Array:
        array = self._tensors[name]
        _, kind = STORED[storage(array.shape, self._dtype)]
        return jax.device_put(array.astype(kind, copy=self._copy))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
