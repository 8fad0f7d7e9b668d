"""The folder in which this package stores files between runs."""

import os
import shutil
import stat
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


def is_ours(path: Path) -> bool:
    """Whether a file was put there by this user: what another user wrote is not believed.

    It must be a regular file and no link, belong to this user or to root, and be writable
    by nobody outside of its group.
    """
    try:
        found = path.lstat()
    except OSError:
        return False
    if not stat.S_ISREG(found.st_mode):
        return False
    if not hasattr(os, "geteuid"):  # Windows keeps a folder per user instead
        return True
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & stat.S_IWOTH


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


def make_room(folder: Path, suffix: str, size_max: int) -> None:
    """Delete the least recently used files of one kind beyond a limit in bytes."""
    found = [(path.stat(), path) for path in folder.glob(f"*{suffix}")]
    total = sum(known.st_size for known, _ in found)
    for known, path in sorted(found, key=lambda each: each[0].st_mtime):
        if total <= size_max:
            return
        path.unlink(missing_ok=True)
        total -= known.st_size
