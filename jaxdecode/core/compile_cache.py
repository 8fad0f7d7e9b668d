"""Compiled programs stored on disk, so that a second start does not compile again.

Off by default in the library, because it is a setting of the whole process; the command
line turns it on. Each JAX version and processor has its own folder, because code
compiled for one processor may be illegal on another one that shares the home folder.
"""

import functools
import hashlib
import os
import platform
from pathlib import Path

import jax

from jaxdecode.core.cache_folder import cache_folder

PROGRAMS = "programs"  # found without tracing; see decode/kept_programs.py
OUTLINES = "outlines"  # found without a module; see models/kept_outlines.py
SIZE_MAX = 2**31  # bytes; beyond it, the least recently used programs are deleted


def enable_compilation_cache(path: str | os.PathLike | None = None) -> Path:
    """Store compiled programs in a folder and load them from there.

    Small programs are stored too: a start needs many of them. Call it before the first
    program is compiled; programs compiled earlier are not stored.

    Args:
      path: the folder. None: `xla` in the folder named by the environment variable
        JAXDECODE_CACHE, else in `jaxdecode` in the platform's folder for caches.

    Returns:
      The folder in use: one inside `path` for this JAX version and processor.

    Raises:
      OSError: if the folder cannot be made.
    """
    folder = Path(path).expanduser() if path is not None else cache_folder() / "xla"
    folder = folder / f"{jax.__version__}-{processor()}"
    (folder / PROGRAMS).mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # With a size limit JAX also locks the folder: no process reads a partial file.
    jax.config.update("jax_compilation_cache_max_size", SIZE_MAX)
    return folder


def programs_folder() -> Path | None:
    """Return where finished programs are kept; None where nobody asked for it."""
    chosen = jax.config.values["jax_compilation_cache_dir"]
    return _programs_in(chosen) if chosen else None


def outlines_folder() -> Path | None:
    """Return where outlines of models are kept; None where programs are not."""
    programs = programs_folder()
    return programs and programs.with_name(OUTLINES)


@functools.cache
def _programs_in(chosen: str) -> Path | None:
    folder = Path(chosen) / PROGRAMS
    return folder if folder.is_dir() else None


def forget_program(folder: Path, name: str) -> int:
    """Delete the stored programs of one name, and return how many there were.

    JAX never overwrites a file, so a damaged one (a full disk, a killed process) would
    fail to load, and be compiled again, at every start.
    """
    entries = list(folder.glob(f"{name}-*-cache"))
    for entry in entries:
        entry.unlink(missing_ok=True)
    return len(entries)


def processor() -> str:
    """Return a short hash of the instructions that this processor can execute."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            head = file.read(8192)  # the first core is enough
    except OSError:
        head = ""
    lines = [line for line in head.splitlines() if _describes_processor(line)]
    first = "\n".join(lines[:2]) or platform.processor()
    digest = hashlib.sha256(f"{platform.machine()}\n{first}".encode()).hexdigest()
    return digest[:8]


def _describes_processor(line: str) -> bool:
    return line.startswith(("model name", "flags", "Features", "CPU part"))
