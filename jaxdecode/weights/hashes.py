"""The SHA-256 of a file, remembered for as long as the file is untouched.

Size and modification time alone do not say that: a program can set both. The time of the
last change to a file's data or entry cannot be set, so the note that keeps a hash also
has that time, the file's number and its device. Where they differ from the note, or a
file system keeps whole seconds only, the file is read and hashed again: 98 MB take 60 ms.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from jaxdecode.core.cache_folder import cache_folder, is_ours

GRAIN = 0.02  # seconds; two changes closer than a tick of the kernel have the same time


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, from its note if the file is untouched.

    Raises:
      OSError: if the file cannot be read.
    """
    mark = _mark(path)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        note = json.loads(_note(path).read_text()) if is_ours(_note(path)) else {}
        if mark and note["mark"] == mark:
            return str(note["sha256"])
    return _remembered(path)


def forget(path: Path) -> None:
    """Delete the note of a file's hash."""
    _note(path).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file by reading all of it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered(path: Path) -> str:
    """Hash a file and keep a note, unless it changed meanwhile."""
    age = time.time() - path.stat().st_mtime
    if 0 <= age < GRAIN:  # or a change right after the hash could have the same time
        time.sleep(GRAIN)
    before = _mark(path)
    found = sha256(path)
    # If the cache folder cannot be written, the file is hashed again each time.
    with contextlib.suppress(OSError):
        if before and before == _mark(path):
            place = _note(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = place.with_name(f"{place.name}.{os.getpid()}")
            draft.write_text(json.dumps({"sha256": found, "mark": before}))
            draft.replace(place)
    return found


def _mark(path: Path) -> list[int]:
    """Return what changes with every change of a file; nothing if it would not show."""
    stat = path.stat()
    if os.name == "nt" or stat.st_ctime_ns % 10**9 == 0:
        return []  # the time of creation, or whole seconds
    times = [stat.st_mtime_ns, stat.st_ctime_ns]
    return [stat.st_size, *times, stat.st_ino, stat.st_dev]


def _note(path: Path) -> Path:
    mark = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "verified" / f"{mark}.json"
