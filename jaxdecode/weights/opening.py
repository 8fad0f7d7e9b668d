"""From a path to a checkpoint, or to one file of tensors, by what the path is.

Headers and small JSON files are read and checked; tensors are not read. Pickle files are
never opened, and no code of a checkpoint is run.
"""

from pathlib import Path

from jaxdecode.weights.checkpoint import Checkpoint
from jaxdecode.weights.errors import PICKLES, CheckpointError, require_file
from jaxdecode.weights.folder import open_folder
from jaxdecode.weights.safetensors_file import SafetensorsFile
from jaxdecode.weights.table import Entry, TensorFile


def open_checkpoint(path: str | Path, adapter: str | Path | None = None) -> Checkpoint:
    """Open a folder in Hugging Face form, or a `.gguf` file.

    Args:
      path: the folder (config.json and safetensors) or the file.
      adapter: a LoRA adapter folder, whose changes the tensors have when they are read.

    Returns:
      The model; every tensor is accounted for and none is read.

    Raises:
      FileNotFoundError: if there is nothing at `path`.
      CheckpointError: for a broken or incomplete checkpoint, or one of a kind or with an
        option that is not supported.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder.")
    if path.is_dir():
        return open_folder(path, adapter)
    if adapter is not None:
        raise CheckpointError(
            f"{path}: an adapter must be given with the folder of its base, whose names "
            "it has; a file does not have them."
        )
    if path.suffix == ".gguf":
        # Here, because the `gguf` library is needed for nothing else: not for folders,
        # and not where a converted copy of the file is kept.
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


def open_file(path: str | Path) -> TensorFile:
    """Open a `.safetensors` or `.gguf` file and check its whole header.

    Args:
      path: the file; the ending decides the format.

    Returns:
      The file's table and a way to read single tensors.

    Raises:
      FileNotFoundError: if there is no such file.
      CheckpointError: for a broken file or another format.
    """
    path = require_file(path)
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix == ".gguf":
        from jaxdecode.weights.gguf_file import GGUFFile  # as above

        return GGUFFile(path)
    raise CheckpointError(
        f"{path}: weights must be a .safetensors or .gguf file; pickle files (.bin, "
        ".pt, .pth, .ckpt) can run code when read and are never opened."
    )


def read_table(path: str | Path) -> dict[str, Entry]:
    """Return the checked table of tensors of one `.safetensors` or `.gguf` file."""
    return dict(open_file(path).tensors)
