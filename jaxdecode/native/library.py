"""The kernels as a shared library: compiled once per machine, then loaded.

XLA's own products on CPU leave half of the memory bandwidth and of the arithmetic unused
for a few rows (see `kernels.c`). Where a C compiler and AVX2, AVX-512 or NEON are found,
a library is built from the sources beside this file, kept in the cache folder and handed
to XLA as a custom call. Where not, everything goes through XLA, slower and just as right.
A kept library is checked before it is loaded (`kept.py`) and built again if it is damaged
or another user's.

The environment variable JAXDECODE_NATIVE=off leaves the kernels out; CC names the
compiler, with arguments if it has some, as in `CC="ccache gcc"`.
"""

import ctypes
import dataclasses
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import jax
import jax.ffi
from jaxlib import version as jaxlib_version

from jaxdecode.core.beside import run_beside
from jaxdecode.core.cache_folder import cache_folder, sweep
from jaxdecode.core.compile_cache import processor
from jaxdecode.core.platform import Platform, backend
from jaxdecode.native.kept import is_whole, seal
from jaxdecode.native.proven import why_unproven

VARIABLE = "JAXDECODE_NATIVE"
SOURCES = ("simd.h", "simd_x86.h", "simd_avx512.h", "simd_avx2.h", "simd_neon.h")
SOURCES += ("work.h", "softmax.h", "blocked_attention.h")
SOURCES += ("frame.h", "exponential.h", "tile.h", "amx.h", "product.h", "rows.h")
SOURCES += ("multiply.h", "attention.h", "best.h", "sort.h", "survey.h", "noise.h")
SOURCES += ("draws.h",)
SOURCES += ("kernels.c",)
HANDLERS = ("jaxdecode_product", "jaxdecode_attend", "jaxdecode_best", "jaxdecode_sort")
HANDLERS += ("jaxdecode_survey", "jaxdecode_put", "jaxdecode_search", "jaxdecode_hash")
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared")
FLAGS += ("-fno-math-errno", "-fno-trapping-math")  # or rounding is not vectorised
# What names this very processor to a compiler, for each machine that has kernels.
PROCESSOR = {"x86_64": "-march=native", "amd64": "-march=native"}
PROCESSOR |= {"aarch64": "-mcpu=native", "arm64": "-mcpu=native"}
COMPILE_SECONDS_MAX = 120
_ONE_AT_A_TIME = threading.Lock()


def current_platform() -> Platform:
    """Return the platform of JAX's default backend.

    The first call builds the kernels on a CPU, and tries the one for CUDA on a GPU.
    """
    kernels, token_kernel = is_available(), not why_no_token_kernel()
    return dataclasses.replace(backend(), kernels=kernels, token_kernel=token_kernel)


def begin_to_build() -> bool:
    """Build and load the kernels in a thread, for who has other work until then.

    Returns:
      Whether they can be expected; `is_available` waits, and knows.
    """
    if backend().kind != "cpu" or _why_off() or _why_not_here():
        return False
    if _load.cache_info().currsize:
        return is_available()
    try:
        _folder().mkdir(parents=True, exist_ok=True)
    except OSError:  # nothing could be kept; `_load` says so
        return False
    threading.Thread(target=why_unavailable, name="kernels", daemon=True).start()
    return True


def is_available() -> bool:
    """Whether programs for the CPU may use the kernels; the first call builds them.

    False as well where JAX's default backend is no CPU.
    """
    return not why_unavailable()


def why_unavailable() -> str:
    """Return the reason why the kernels are not used, or "" if they are."""
    if backend().kind != "cpu":
        return f"the default backend is {backend().kind}"
    with _ONE_AT_A_TIME:
        return _why_off() or _load()


def why_no_token_kernel() -> str:
    """Return why single tokens are read without the CUDA kernel, or "" if with it.

    The first call on a kind of GPU tries the kernel in another process (`proven.py`).
    """
    if backend().kind != "gpu":
        return f"the default backend is {backend().kind}"
    return _why_off() or why_unproven()


def _why_off() -> str:
    off = os.environ.get(VARIABLE, "").lower() in ("off", "0", "no")
    return f"{VARIABLE} is off" if off else ""


def _why_not_here() -> str:
    """Return why nothing can be built for this machine, or ""."""
    if platform.machine().lower() not in PROCESSOR:
        return f"no kernels for {platform.machine()}"
    try:
        _compiler()
    except _BuildError as error:
        return str(error)
    return ""


@functools.cache
def _load() -> str:
    """Build, load and register the kernels; return what prevented it, or ""."""
    if why_not := _why_not_here():
        return why_not
    try:
        library = ctypes.CDLL(str(_built()))
        for name in HANDLERS:
            capsule = jax.ffi.pycapsule(getattr(library, name))
            jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    except (OSError, AttributeError, _BuildError) as error:
        return str(error)
    return ""


class _BuildError(Exception):
    """The compiler is missing or refused the sources."""


def _built() -> Path:
    """Return the library's path, compiling it if it is not there, whole and ours."""
    compiler = _compiler()
    folder = _folder()
    path = folder / f"kernels-{_fingerprint(compiler)}.so"
    if not is_whole(path):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, "building-")
        with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as place:
            made = Path(place) / "kernels.so"
            _compile(compiler, made)
            seal(made)
            made.replace(path)  # atomic: another process sees all of it or nothing
    return path


def _folder() -> Path:
    return cache_folder() / "native"


def _compiler() -> tuple[str, ...]:
    """Return the compiler's path and the arguments that come with it."""
    asked = os.environ.get("CC", "").strip()
    for name in [asked] if asked else _COMPILERS:
        found = shutil.which(name)
        if found:
            return (found,)
    try:
        first, *rest = shlex.split(asked)
    except ValueError:  # nothing, or a quote without its end
        first, rest = "", []
    found = shutil.which(first)
    if found is None:
        raise _BuildError(f"no C compiler found (looked for {asked or _COMPILERS})")
    return (found, *rest)


_COMPILERS = ("cc", "gcc", "clang")


def _flags() -> tuple[str, ...]:
    return (*FLAGS, PROCESSOR[platform.machine().lower()])


def _compile(compiler: tuple[str, ...], made: Path) -> None:
    here = Path(__file__).parent
    shown = shlex.join(compiler)
    command = [*compiler, *_flags(), f"-I{jax.ffi.include_dir()}", "-o", str(made)]
    try:
        code, said = run_beside(
            [*command, str(here / SOURCES[-1]), "-lm"], COMPILE_SECONDS_MAX
        )
    except subprocess.TimeoutExpired as error:
        raise _BuildError(f"{shown} took over {COMPILE_SECONDS_MAX} s") from error
    if code or not made.is_file():
        reason = next((x for x in said.splitlines() if "error" in x), "no reason")
        raise _BuildError(f"{shown} refused the kernels: {reason.strip()}")


def _fingerprint(compiler: tuple[str, ...]) -> str:
    """Return what a compiled library depends on, as a short name."""
    here = Path(__file__).parent
    parts = [(here / name).read_bytes() for name in SOURCES]
    parts += [jaxlib_version.__version__.encode(), processor().encode()]
    parts += [os.fsencode(shlex.join(compiler)), " ".join(_flags()).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
