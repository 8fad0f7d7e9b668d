"""Files of the cache folder that are believed only as they were written.

A file is one user's own, begins with the name of its format, and has the hash of what
follows. It is written beside its place and moved there in one step.
"""

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

from jaxdecode.core.cache_folder import is_ours, make_room, sweep

WRITING = ".writing-"
_HASH = 32  # bytes


def read(place: Path, kind: bytes) -> bytes | None:
    """Return what was kept, or None if there is nothing that can be believed.

    Args:
      place: the file.
      kind: the first bytes of such files.
    """
    if not is_ours(place):
        return None
    try:
        data = place.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(place)  # the least recently used ones are deleted
    start = len(kind) + _HASH
    body = data[start:]
    return body if data[:start] == kind + hashlib.sha256(body).digest() else None


def write(place: Path, kind: bytes, body: bytes, *, size_max: int) -> None:
    """Keep bytes.

    Args:
      place: the file; its folder is made if necessary.
      kind: the first bytes of such files.
      body: what to keep.
      size_max: bytes; beyond it, the least recently used files with the suffix of
        `place` are deleted.

    Raises:
      OSError: if it cannot be written.
    """
    folder = place.parent
    folder.mkdir(exist_ok=True)
    draft = folder / f"{WRITING}{uuid.uuid4().hex}"
    try:
        with draft.open("xb") as file:
            file.writelines((kind, hashlib.sha256(body).digest(), body))
        os.replace(draft, place)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sweep(folder, WRITING)
    make_room(folder, place.suffix, size_max)


def forget(place: Path) -> None:
    """Delete a file that turned out to be of no use."""
    with contextlib.suppress(OSError):
        place.unlink()
