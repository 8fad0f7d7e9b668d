"""A model at rest: its config, where its numbers and its tokenizer are, its special ids.

`open_checkpoint` reads headers and small JSON files only; a tensor is read when it is
asked for, under our own name. It never loads pickle and never runs code of a checkpoint.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecode.models.config import ModelConfig
from jaxdecode.weights.errors import PICKLES, CheckpointError
from jaxdecode.weights.names import Source
from jaxdecode.weights.table import TensorFile


@dataclass(frozen=True)
class TokenizerSource:
    """Where a tokenizer comes from.

    Attributes:
      kind: "json" (a file) or "gguf" (metadata).
      path: the tokenizer.json, for "json".
      metadata: for "gguf", the `tokenizer.ggml.*` entries without that prefix, as plain
        values (`tokens`, `merges`, `token_type`, `scores`, `model`, `pre`,
        `bos_token_id`, `add_bos_token`, ...), and `chat_template`.
    """

    kind: str
    path: Path | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a model besides its numbers.

    Attributes:
      config: sizes and switches.
      tokenizer: where its tokenizer is, or None.
      eos_ids: token ids that end a text, in the order given.
      bos_id: the id that begins one, or None.
      pad_id: the id written after the end; the first eos id, or 0, if none is named.
      chat_template: the template's text, or None.
      name: what to call it.
    """

    config: ModelConfig
    tokenizer: TokenizerSource | None = None
    eos_ids: tuple[int, ...] = ()
    bos_id: int | None = None
    pad_id: int = 0
    chat_template: str | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Facts):
    """A model whose tensors are still on the disk.

    Attributes:
      tensors: our parameter names to arrays, read when looked up.
      shareable: whether a device may use the memory of the arrays as it is. True only
        for files of ours, which are replaced but never changed.
    """

    tensors: Mapping[str, np.ndarray]
    shareable: bool = False


class Tensors(Mapping[str, np.ndarray]):
    """Parameters by our names, read from their files at each look-up.

    Args:
      layout: our names and their sources.
      files: which file has each stored tensor.
    """

    def __init__(self, layout: Mapping[str, Source], files: Mapping[str, TensorFile]):
        self._layout = layout
        self._files = files

    def __getitem__(self, name: str) -> np.ndarray:
        source = self._layout[name]
        return source.convert(self._files[source.name].read(source.name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout)

    def __len__(self) -> int:
        return len(self._layout)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a folder in Hugging Face form, or a `.gguf` file.

    Args:
      path: the folder (config.json and safetensors) or the file.

    Returns:
      The model, every tensor accounted for, none read.

    Raises:
      FileNotFoundError: if there is nothing at `path`.
      CheckpointError: for a broken or incomplete checkpoint, or one of a kind or with an
        option that is not supported.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder.")
    if path.is_dir():
        from jaxdecode.weights.folder import open_folder

        return open_folder(path)
    if path.suffix == ".gguf":
        from jaxdecode.weights.gguf_model import open_gguf

        return open_gguf(path)
    if path.suffix in PICKLES:
        raise CheckpointError(
            f"{path}: pickle files can run code when read and are never opened; convert "
            "the model to safetensors."
        )
    raise CheckpointError(
        f"{path}: a checkpoint must be a folder with config.json and *.safetensors, or "
        "a .gguf file."
    )


def special_ids(
    vocab_size: int, *, eos: Any, bos: Any, pad: Any
) -> tuple[tuple[int, ...], int | None, int]:
    """Check the special token ids that a checkpoint names and fill in the defaults.

    Args:
      vocab_size: number of token ids.
      eos: an id, several, or None.
      bos: an id or None.
      pad: an id or None. One that the vocabulary does not have counts as None: it is
        only ever written after a text, never read by the model.

    Returns:
      eos ids, bos id or None, pad id.

    Raises:
      CheckpointError: for an eos or bos id that the vocabulary does not have.
    """
    listed = eos if isinstance(eos, list) else [eos]
    eos_ids = [_token("eos_token_id", i, vocab_size) for i in listed]
    eos_ids = tuple(dict.fromkeys(i for i in eos_ids if i is not None))
    bos_id = _token("bos_token_id", bos, vocab_size)
    if type(pad) is not int or not 0 <= pad < vocab_size:
        pad = eos_ids[0] if eos_ids else 0
    return eos_ids, bos_id, pad


def _token(what: str, value: Any, vocab_size: int) -> int | None:
    if value is None or value == -1:  # -1 is how some files say "none"
        return None
    if type(value) is not int or not 0 <= value < vocab_size:
        raise CheckpointError(
            f"`{what}` must be a token id in [0, {vocab_size - 1}], got {value!r}."
        )
    return value
