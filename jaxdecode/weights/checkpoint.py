"""A model on the disk: its config, its tensors, its tokenizer and its special ids.

A tensor is read when it is looked up, under our own name. `opening` makes a checkpoint
from a path.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from jaxdecode.models.config import ModelConfig
from jaxdecode.weights.errors import CheckpointError
from jaxdecode.weights.names import Source
from jaxdecode.weights.table import TensorFile


@dataclass(frozen=True)
class TokenizerSource:
    """Where a tokenizer comes from.

    Attributes:
      kind: "json" (a file), "gguf" (metadata, also of files that hold the same), or
        "unsupported".
      path: the tokenizer.json, for "json".
      metadata: for "gguf", the `tokenizer.ggml.*` entries without that prefix, as plain
        values (`tokens`, `merges`, `token_type`, `scores`, `model`, `pre`,
        `bos_token_id`, `add_bos_token`, ...), and `chat_template`.
      reason: for "unsupported", what the folder has instead.
    """

    kind: str
    path: Path | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything known of a model besides its tensors.

    Attributes:
      config: sizes and switches.
      tokenizer: where its tokenizer is, or None.
      eos_ids: token ids that end a text, in the order given.
      bos_id: the id that begins one, or None.
      pad_id: the id written after the end; the first eos id, or 0, if none is named.
      chat_template: the template's text, or None.
      special_texts: texts of the special tokens, such as {"eos_token": "</s>"}, as the
        files name them; None if they name ids only.
      sampling: settings of sampling that come with the model, by their names in a
        generation_config.json.
      name: what to call it.
    """

    config: ModelConfig
    tokenizer: TokenizerSource | None = None
    eos_ids: tuple[int, ...] = ()
    bos_id: int | None = None
    pad_id: int = 0
    chat_template: str | None = None
    special_texts: dict[str, str] | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Facts):
    """A model whose tensors are still on the disk.

    Attributes:
      tensors: our parameter names to arrays, read when looked up.
      shareable: whether a device may use the memory of the arrays without a copy. True
        only for files of ours, which are replaced but never changed.
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
        parts = [source.convert(self._files[n].read(n)) for n in source.names]
        return np.stack(parts) if source.is_stacked else parts[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout)

    def __len__(self) -> int:
        return len(self._layout)


SpecialIds: TypeAlias = tuple[tuple[int, ...], int | None, int]


def special_ids(vocab_size: int, *, eos: Any, bos: Any, pad: Any) -> SpecialIds:
    """Check the special token ids that a checkpoint names and fill in the defaults.

    Args:
      vocab_size: number of token ids.
      eos: an id, several, or None.
      bos: an id or None.
      pad: an id or None. An id that the vocabulary lacks counts as None: padding is
        written after a text and never read by the model.

    Returns:
      eos ids, bos id or None, pad id.

    Raises:
      CheckpointError: for an eos or bos id that the vocabulary lacks.
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
