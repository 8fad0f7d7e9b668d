"""Compiled programs kept on disk, so that a second start does not compile again.

Off by default in the library, because it is a setting of the whole process; the command
line turns it on. Programs are kept apart by JAX version and processor, because code
made for one processor may be illegal on another one that shares the home folder.
"""

import hashlib
import os
import platform
from pathlib import Path

import jax

from jaxdecode.core.cache_folder import cache_folder

SIZE_MAX = 2**31  # bytes; the least recently used programs make room


def enable_compilation_cache(path: str | os.PathLike | None = None) -> Path:
    """Keep compiled programs in a folder and take them from there.

    Small programs are kept too: a start needs many of them. Call it before the first
    program is compiled; what was compiled earlier is not written.

    Args:
      path: the folder; None is `xla` in the folder that the environment variable
        JAXDECODE_CACHE names, else in `jaxdecode` in the platform's folder for caches.

    Returns:
      The folder in use: one inside `path` for this JAX version and processor.

    Raises:
      OSError: if the folder cannot be made.
    """
    folder = Path(path).expanduser() if path is not None else cache_folder() / "xla"
    folder = folder / f"{jax.__version__}-{processor()}"
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # A bound also makes JAX lock the folder, so no process reads a half-written entry.
    jax.config.update("jax_compilation_cache_max_size", SIZE_MAX)
    return folder


def forget_program(folder: Path, name: str) -> int:
    """Remove the kept programs of one name, and return how many there were.

    JAX never overwrites an entry, so one that was cut short (a full disk, a killed
    process) would be refused and compiled again at every start.
    """
    entries = list(folder.glob(f"{name}-*-cache"))
    for entry in entries:
        entry.unlink(missing_ok=True)
    return len(entries)


def processor() -> str:
    """Return a short name for what this processor can execute."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            head = file.read(8192)  # the first core is enough
    except OSError:
        head = ""
    lines = [line for line in head.splitlines() if _says_what_it_can(line)]
    first = "\n".join(lines[:2]) or platform.processor()
    digest = hashlib.sha256(f"{platform.machine()}\n{first}".encode()).hexdigest()
    return digest[:8]


def _says_what_it_can(line: str) -> bool:
    return line.startswith(("model name", "flags", "Features", "CPU part"))
