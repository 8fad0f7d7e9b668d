"""The folder in which this package stores files between runs."""

import os
import shutil
import sys
import time
from pathlib import Path

VARIABLE = "JAXDECODE_CACHE"
LEFTOVER_AGE = 24 * 3600  # seconds; no file that is still being written is older


def cache_folder() -> Path:
    """Return the cache folder; it may not exist yet.

    `JAXDECODE_CACHE` if set, else `jaxdecode` in the platform's folder for caches.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "jaxdecode"
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jaxdecode"


def sweep(folder: Path, prefix: str) -> None:
    """Delete temporary files and folders that killed processes left behind."""
    for path in folder.glob(f"{prefix}*"):
        try:
            if time.time() - path.stat().st_mtime < LEFTOVER_AGE:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:
            continue  # another process deleted it first
