"""A compiled library that is kept on the disk, and whether it may be loaded.

Loading runs what is in the file, and a file that was cut short kills the process with
SIGBUS, sometimes only when the missing page is needed. So a library of ours ends with a
seal, its size and SHA-256 (a loader ignores what stands after the last section), and is
loaded only if the seal fits and this user wrote the file.
"""

import hashlib
from pathlib import Path

from jaxdecode.core.cache_folder import is_ours

MARK = b"jaxdecode kernels"


def seal(path: Path) -> None:
    """Append the size and the hash of a library to it."""
    with path.open("r+b") as file:
        file.write(_seal(file.read()))


def is_whole(path: Path) -> bool:
    """Whether a file is a sealed library of this user, without a changed byte."""
    if not is_ours(path):
        return False
    try:
        data = path.read_bytes()
    except OSError:
        return False
    size = len(data) - len(_seal(b""))
    return size > 0 and data[size:] == _seal(data[:size])


def _seal(data: bytes) -> bytes:
    return MARK + len(data).to_bytes(8, "little") + hashlib.sha256(data).digest()
