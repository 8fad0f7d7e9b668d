"""The two ways in which loading a model can fail: its file is wrong, or it is missing.

Both are classes of our own, so that a caller can tell them from a mistake in a program.
"""

from collections.abc import Iterable
from pathlib import Path

from jaxdecode.models.families.errors import CheckpointError as CheckpointError

SHOWN_MAX = 5
ITEM_MAX = 200
PICKLES = (".bin", ".pt", ".pth", ".ckpt")  # can run code when read: never opened


class DownloadError(OSError):
    """A model that is not on this machine and could not be fetched."""


def listing(items: Iterable[str]) -> str:
    """Join the first few items for a message, with the number of the others."""
    items = list(items)
    rest = len(items) - SHOWN_MAX
    shown = "; ".join(shortened(item) for item in items[:SHOWN_MAX])
    return f"{shown}; and {rest} more" if rest > 0 else shown


def shortened(item: str) -> str:
    """Return the beginning of a text from a file that may be megabytes long."""
    return item if len(item) <= ITEM_MAX else f"{item[:ITEM_MAX]}..."


def require_file(path: str | Path) -> Path:
    """Return the path of an existing regular file.

    Raises:
      FileNotFoundError: if nothing is there.
      CheckpointError: for a folder, a pipe or a device, which cannot be mapped.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if not path.is_file():
        raise CheckpointError(f"{path}: not a regular file.")
    return path
