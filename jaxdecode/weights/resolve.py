"""From a model's name to a path on this machine; downloads the model if necessary."""

import re
from pathlib import Path

from jaxdecode.weights.errors import PICKLES, DownloadError
from jaxdecode.weights.fetch import fetch_file
from jaxdecode.weights.licence import require_consent
from jaxdecode.weights.registry import KNOWN, KnownModel, known, locate

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILE_ENDINGS = (".gguf", ".safetensors", *PICKLES)
HUB_PATTERNS = (
    "*.json",
    "*.safetensors",
    "*.jinja",
    "tokenizer.model",
    "merges.txt",
)  # no pickle, no code, no subfolder


def resolve(source: str | Path, *, progress: bool | None = None) -> Path:
    """Find a model by name or path.

    A known name comes first (write `./name` for a folder that is called the same), then
    a path that exists, then `org/name` on the model hub.

    Args:
      source: a known name, a folder, a `.gguf` file, or `org/name`.
      progress: whether a download shows a bar on stderr; None: if it is a terminal.

    Returns:
      The path of a folder or a `.gguf` file.

    Raises:
      TypeError: for anything but a string or a path.
      ValueError: for an unknown name; the message has the nearest known ones.
      FileNotFoundError: for a path that does not exist.
      DownloadError: if the model is not on this machine and cannot be fetched.
    """
    if not isinstance(source, (str, Path)):
        kind = type(source).__name__
        raise TypeError(f"resolve: `source` must be a name or a path, got {kind}.")
    if isinstance(source, str) and source in KNOWN:
        return find_known(KNOWN[source], progress=progress)
    path = Path(source).expanduser()
    if path.exists():
        return path
    is_file_name = path.suffix in FILE_ENDINGS
    if isinstance(source, str) and HUB_NAME.fullmatch(source) and not is_file_name:
        return _from_hub(source)
    if isinstance(source, Path) or is_file_name or any(c in source for c in "/\\~"):
        raise FileNotFoundError(f"{source}: no such file or folder.")
    return known(source).place  # raises, with the nearest names


def find_known(model: KnownModel, *, progress: bool | None = None) -> Path:
    """Return where a known model is; it is downloaded if it is not on this machine.

    Raises:
      DownloadError: if it cannot be downloaded, or its terms are not accepted. A path
        of the environment variable is the user's own.
    """
    found = locate(model)
    if found is None or found[1] != "environment":
        require_consent(model)
    return found[0] if found else fetch_file(model, progress=progress)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, allow_patterns=list(HUB_PATTERNS), ignore_patterns=["*/*"]
        )
        return Path(folder)
    except Exception as error:
        # The client's errors have no common base below Exception.
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise DownloadError(
            f"{name}: no such folder, and it could not be downloaded "
            f"({type(error).__name__}: {first}). By hand: put its "
            f"{', '.join(HUB_PATTERNS)} files in a folder and give the folder's path."
        ) from error
