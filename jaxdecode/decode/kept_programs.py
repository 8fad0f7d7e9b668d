"""Finished programs on disk: a second start neither traces, lowers nor compiles.

JAX's own cache spares the compilation only, because it finds a program by its lowered
text. Here it is found by everything that the text depends on: our sources, the versions,
JAX's settings, the structure of the model and of the other arguments. Where any of these
cannot be named (a function of the user's, several devices), nothing is kept.

In use where `enable_compilation_cache` is; a program is machine code, so a file is only
believed if this user wrote it and its hash is right.
"""

import contextlib
import functools
import os
import pickle
import platform
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib.version
import numpy as np
from jax._src import config  # settings of a `with` have no public name
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from jaxdecode.core import check, kept_file
from jaxdecode.core.compile_cache import programs_folder
from jaxdecode.core.identity import NoIdentity, identity
from jaxdecode.core.sources import sources

FORMAT = b"jaxdecode program 1\n"
SUFFIX = ".program"
SIZE_MAX = 2**29  # bytes; beyond it, the least recently used programs are deleted
READY_MAX = 256  # programs of one function that a process keeps at hand
# Settings that decide where programs are kept, and nothing about them.
_OFF = ("jax_compilation_cache", "jax_enable_compilation_cache", "jax_persistent")
_NO_JIT = "jax_disable_jit"  # in a `with`, too
_compiling = threading.Lock()


def folder_in_use() -> Path | None:
    """Return where programs are kept, or None where they are not."""
    folder = programs_folder()
    if folder is None or jax.device_count() > 1:
        return None
    return None if getattr(jax.config, _NO_JIT) else folder


def signature(leaves: list[Any]) -> tuple[Any, ...] | None:
    """Return the shapes and types of arrays; None if one is no concrete array."""
    found = []
    for leaf in leaves:
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            return None
        if check.is_traced(leaf):
            return None
        found.append((leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)))
    return tuple(found)


def context() -> tuple[Any, ...]:
    """Return JAX's settings of this thread that a program depends on, to be compared."""
    return config.trace_context()


def name_of(function: Callable[..., Any], described: Any) -> str | None:
    """Return the name of a program's file; None if it cannot be named.

    Args:
      function: what was compiled, a function of this package.
      described: everything that its program depends on beside the code: the structures,
        shapes and types of its arguments.
    """
    if not function.__module__.startswith("jaxdecode."):
        return None
    named = function.__module__, function.__qualname__
    try:
        found = identity((_surroundings(), _settings(), named, described))
    except NoIdentity:
        return None
    return found.hex()[:40]


def load(folder: Path, name: str) -> Callable[..., Any] | None:
    """Return a kept program, or None if there is none that can be believed."""
    place = folder / f"{name}{SUFFIX}"
    body = kept_file.read(place, FORMAT)
    if body is None:
        return None
    try:
        return serialize_executable.deserialize_and_load(*pickle.loads(body))
    except Exception:  # of any kind: it is made again
        kept_file.forget(place)
        return None


def compile_and_keep(folder: Path, name: str, lowered: Any) -> Callable[..., Any]:
    """Compile a lowered program and keep it; a folder that cannot be written is no error.

    JAX's own cache is passed by: a program that came from there cannot be kept.
    """
    with _without_jax_cache():
        program = lowered.compile()
    # A program that cannot be written down is compiled at each start.
    writing = (OSError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError)
    with contextlib.suppress(*writing):
        body = pickle.dumps(serialize_executable.serialize(program))
        place = folder / f"{name}{SUFFIX}"
        kept_file.write(place, FORMAT, body, size_max=SIZE_MAX)
    return program


@contextlib.contextmanager
def _without_jax_cache() -> Iterator[None]:
    with _compiling:
        before = jax.config.values["jax_enable_compilation_cache"]
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # JAX looks at the setting once only
        try:
            yield
        finally:
            jax.config.update("jax_enable_compilation_cache", before)
            compilation_cache.reset_cache()


@functools.cache
def _surroundings() -> tuple[Any, ...]:
    """Return what a program depends on that does not change while a process runs."""
    switches = ("XLA_", "JAX_", "JAXDECODE_", "LIBTPU_", "TF_XLA_")
    environment = sorted(
        item for item in os.environ.items() if item[0].startswith(switches)
    )
    client = jax.devices()[0].client
    return (
        sources(),
        (
            jax.__version__,
            jaxlib.version.__version__,
            platform.python_version(),
            np.__version__,
        ),
        (client.platform, client.platform_version, jax.devices()[0].device_kind),
        tuple(environment),
    )


def _settings() -> tuple[str, ...]:
    """Return JAX's settings, those of a `with` in this thread included.

    Raises:
      NoIdentity: if one of them is an object that does not say what it is.
    """
    here = zip(config.trace_context_names(), config.trace_context(), strict=True)
    values = {**jax.config.values, **dict(here)}
    values.pop("axis_env_state", None)  # axes of a vmap, whose arrays are traced
    found = [f"{n}={v!r}" for n, v in sorted(values.items()) if not n.startswith(_OFF)]
    if any(" at 0x" in text for text in found):
        raise NoIdentity("a setting of JAX")
    return tuple(found)
