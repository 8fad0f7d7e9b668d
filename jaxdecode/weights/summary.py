"""What can be said of a model's files without loading a weight, also of unsupported ones.

Nothing here fails for a file that is broken or of an unknown kind: what is wrong becomes
a line of the summary.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxdecode.core.check import short
from jaxdecode.weights.checkpoint import Checkpoint
from jaxdecode.weights.errors import CheckpointError
from jaxdecode.weights.folder import member, read_json
from jaxdecode.weights.opening import open_checkpoint, open_file
from jaxdecode.weights.registry import KNOWN
from jaxdecode.weights.table import Entry

CARD = "README.md"
CARD_MAX = 2**16
_LICENCE = re.compile(r"^license(?:_name)?:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


@dataclass(kw_only=True)
class Summary:
    """What the files of a model say.

    Attributes:
      path: the folder or file.
      architecture: what the files call the architecture; "unknown" if they do not.
      licence: the licence that they name, or None.
      tensors: every stored tensor.
      checkpoint: the opened model, or None if it cannot be opened.
      problems: what is broken or not supported.
    """

    path: Path
    architecture: str = "unknown"
    licence: str | None = None
    tensors: list[Entry] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of the tensors of each storage type, the largest first."""
        sizes: dict[str, int] = {}
        for entry in self.tensors:
            sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.size
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))

    @property
    def elements(self) -> int:
        """Numbers in all stored tensors."""
        return sum(entry.elements for entry in self.tensors)


def summarize(path: str | Path) -> Summary:
    """Return what the files at a path say.

    Args:
      path: a folder or a `.gguf` file.

    Raises:
      FileNotFoundError: if there is nothing at `path`.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder.")
    summary = Summary(path=path)
    summary.checkpoint = _tried(summary, lambda: open_checkpoint(path))
    quiet = Summary(path=path)  # what is broken was said above
    if path.is_dir():
        _tried(quiet, lambda: _of_folder(summary))
    elif path.suffix == ".gguf":
        _tried(quiet, lambda: _of_gguf(summary))
    for known in KNOWN.values():
        if path.name == known.file and path.stat().st_size == known.size:
            summary.licence = known.licence
    return summary


def _tried(summary: Summary, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (CheckpointError, OSError) as error:
        summary.problems.append(str(error))
        return None


def _of_folder(summary: Summary) -> None:
    folder = summary.path
    summary.licence = _licence_of(folder)
    for file in sorted(folder.glob("*.safetensors")):
        summary.tensors += open_file(file).tensors.values()
    config = read_json(folder, "config.json") or {}
    summary.architecture = _label(config)


def _label(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    kind = config.get("model_type")
    return kind if isinstance(kind, str) else "unknown"


def _of_gguf(summary: Summary) -> None:
    from jaxdecode.weights.gguf_parts import open_parts

    file = open_parts(summary.path)
    summary.tensors += file.tensors.values()
    summary.architecture = short(_text(file.metadata, ["general.architecture"]))
    summary.architecture = summary.architecture.strip("'") or "unknown"
    names = ["general.license", "general.license.name"]
    summary.licence = _text(file.metadata, names) or None


def _text(metadata: Mapping[str, Any], names: Iterable[str]) -> str:
    values = [metadata.get(name) for name in names]
    return next((value for value in values if isinstance(value, str)), "")


def _licence_of(folder: Path) -> str | None:
    """Return the licence that the head of the model card names, or None."""
    path = member(folder, CARD)
    if path is None:
        return None
    with path.open("rb") as file:
        text = file.read(CARD_MAX).decode("utf-8-sig", "replace")
    head = text.replace("\r\n", "\n").split("\n---", 1)[0]
    found = _LICENCE.search(head) if text.startswith("---") else None
    return json.dumps(found[1].strip("'\""))[1:-1] if found else None
