"""Whether this device has proven the CUDA kernel right: tried once, the verdict is kept.

A kernel that was never run on a device of some kind, with some version of the compiler
and of the driver, may give wrong numbers there, fail, hang, or read where it must not,
which would end all work of the process on the device. So it is tried in another process
(`token_proof.py`) before any program uses it. The verdict is kept in the cache folder by
all it depends on, so that the next start reads one small file.
"""

import contextlib
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax

from jaxdecode.core import kept_file
from jaxdecode.core.cache_folder import cache_folder
from jaxdecode.core.identity import identity

OPENED, PROVEN = "opened", "proven"  # lines that the other process prints
PROOF = (sys.executable, "-m", "jaxdecode.native.token_proof")
SECONDS_MAX = 180  # whatever takes longer is taken for hanging
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
SOURCES = ("native/token_kernel.py", "native/token_proof.py", "core/soft_cap.py")
FORMAT = b"jaxdecode verdict 1\n"
SUFFIX = ".verdict"
SIZE_MAX = 2**16  # bytes of all verdicts
_PACKAGE = Path(__file__).resolve().parent.parent
_DRIVER = Path("/proc/driver/nvidia/version")


def why_unproven() -> str:
    """Return why the kernel is not used on this process's GPU, or "" if it is.

    Where there are several devices, a program may be cut over them by its arguments'
    shardings alone. XLA cannot cut the kernel: it would gather the cache in each step.
    """
    first, *others = jax.devices()
    version = first.client.platform_version
    if "cuda" not in version.lower():
        return f"the kernel is for CUDA, and this is {version}"
    if others:
        return (
            "it is for one GPU, and there are more (CUDA_VISIBLE_DEVICES=0 shows one)"
        )
    return _why_unproven_on(first.device_kind, version)


@functools.cache
def _why_unproven_on(kind: str, version: str) -> str:
    """Return the verdict on a kind of device, kept or new."""
    place = _place(kind, version)
    kept = kept_file.read(place, FORMAT)
    if kept is not None:
        return kept.decode()
    reason, is_final = _tried(kind)
    if is_final:
        with contextlib.suppress(OSError):
            place.parent.parent.mkdir(parents=True, exist_ok=True)
            kept_file.write(place, FORMAT, reason.encode(), size_max=SIZE_MAX)
    return reason


def _place(kind: str, version: str) -> Path:
    """Return the file of a verdict, named by what it depends on."""
    code = [(_PACKAGE / name).read_bytes() for name in SOURCES]
    driver = _DRIVER.read_bytes() if _DRIVER.is_file() else b""
    flags = os.environ.get("XLA_FLAGS", "")
    name = identity((kind, version, jax.__version__, driver, flags, code))
    return cache_folder() / "verdicts" / f"{name.hex()[:40]}{SUFFIX}"


def _tried(kind: str) -> tuple[str, bool]:
    """Return what speaks against the kernel, and whether the next try would say the same.

    It would not if the other process could not open the device: another one may have
    taken its memory.
    """
    paths = [str(_PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "JAX_PLATFORMS": "cuda",
        # This process may have taken most of the device's memory.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    try:
        done = subprocess.run(
            [*PROOF, kind],
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS_MAX,
            check=False,
        )
    except OSError as error:
        return f"its proof could not be started: {error}", False
    except subprocess.TimeoutExpired as error:
        said = _lines(error.stdout)
        return f"its proof took over {SECONDS_MAX} s", OPENED in said
    said, complaint = _lines(done.stdout), (_lines(done.stderr) or ["no reason"])[-1]
    if OPENED not in said:
        return f"its proof could not open the device: {complaint}", False
    if done.returncode:
        return f"its proof ended with code {done.returncode}: {complaint}", True
    verdict = "" if said[-1] == PROVEN else said[-1]
    return verdict, OUT_OF_MEMORY not in verdict


def _lines(output: bytes | None) -> list[str]:
    return (output or b"").decode(errors="replace").split("\n")[:-1]
