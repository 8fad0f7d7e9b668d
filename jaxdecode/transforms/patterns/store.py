"""Tables on disk: a pattern that was built once for a vocabulary is read the next time.

A file that is missing, damaged or of another version is built again; a folder that
cannot be written is no error.
"""

import contextlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from jaxdecode.core.cache_folder import cache_folder, make_room, sweep

FOLDER = "patterns"
PREFIX = "new-"
SIZE_MAX = 2**28  # bytes of all files; the least recently used go first


def read(key: str) -> dict[str, np.ndarray] | None:
    """Return the arrays stored under a key, or None."""
    path = _path(key)
    try:
        # Opened here, for a damaged one would stay open.
        with open(path, "rb") as data, np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        os.utime(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return arrays


def write(key: str, arrays: dict[str, np.ndarray]) -> None:
    """Store arrays under a key; readers see the whole file or none."""
    path = _path(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        sweep(path.parent, PREFIX)
        make_room(path.parent, ".npz", SIZE_MAX)


def _path(key: str) -> Path:
    return cache_folder() / FOLDER / f"{key}.npz"
