"""What every test runs under: strict promotion, so that a silent cast is an error.

The suite compiles some thousand small programs that run for milliseconds, so XLA's
expensive passes are off. Tests of the contracts themselves, of compiled programs and of
the real model are marked `optimized` or `model` and run what a user runs. Tests marked
`reads_program` get the program of a user, whose machine code is not optimized.
"""

import collections
import ctypes
import gc
import hashlib
import os
import sys
import threading
from unittest import mock

import jax
import pytest
from jax._src import compiler
from jax._src.interpreters import mlir

from tests import cheap

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)

_PROGRAMS_KEPT = 200
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_as_cheap_as_can_be = True
_this_thread = threading.local()

# Tracing makes millions of small objects that live on: Python's usual search for circles
# among them, after each 700 new ones, is a tenth of the time of the suite.
gc.set_threshold(100_000, 50, 100)

# A compiler takes and returns memory all the time. glibc asks the kernel for it in large
# pieces and gives it back after a file (`_forget_programs`), not after each program.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
if mallopt := getattr(_LIBC, "mallopt", None):
    mallopt(_M_TRIM_THRESHOLD, 2**30)
    mallopt(_M_TOP_PAD, 2**26)
    mallopt(_M_MMAP_THRESHOLD, 2**25)


def _compile_options(*args, _original=compiler.get_compile_options, **options):
    """XLA's options, those of cheap programs unless a test is marked."""
    if _as_cheap_as_can_be:
        overrides = options.get("env_options_overrides") or {}
        options["env_options_overrides"] = {**cheap.OPTIONS, **overrides}
    return _original(*args, **options)


def _compile(
    backend,
    module,
    devices,
    options,
    host_callbacks,
    _original=compiler.backend_compile_and_load,
    _kept=collections.OrderedDict(),  # noqa: B006
):
    """Compile, or take the same program that a test of this worker compiled before.

    A third of all programs are small ones that many files need. They are kept here since
    `_forget_programs` clears what JAX keeps. Code lines do not count, options do.
    """
    # Callbacks belong to one call; a program that was written down once cannot be again.
    if host_callbacks or not _as_cheap_as_can_be:
        return _original(backend, module, devices, options, host_callbacks)
    digest = hashlib.sha256(str(module).encode())
    digest.update(options.SerializeAsString())
    key = id(backend), tuple(device.id for device in devices), digest.digest()
    if key not in _kept:
        _kept[key] = _original(backend, module, devices, options, host_callbacks)
    _kept.move_to_end(key)
    if len(_kept) > _PROGRAMS_KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def _context(_original=mlir.make_ir_context):
    """What JAX writes a program down in; one serves all programs of a file.

    JAX makes one for each, and 6 ms of it are as much as a small program takes otherwise.
    """
    if not hasattr(_this_thread, "context"):
        _this_thread.context = _original()
    return _this_thread.context


jax.devices()  # XLA reads its flags here: `cheap.PROCESS` is for other processes
compiler.get_compile_options = _compile_options
compiler.backend_compile_and_load = _compile
mlir.make_ir_context = _context


@pytest.fixture(autouse=True)
def _compile_as_users_do(request):
    global _as_cheap_as_can_be
    marked = {mark.name for mark in request.node.iter_markers()}
    as_users = marked & {"optimized", "model"}
    _as_cheap_as_can_be = not as_users and "reads_program" not in marked
    jax.config.update("jax_disable_most_optimizations", not as_users)
    with mock.patch.dict(os.environ, {} if as_users else cheap.PROCESS):
        yield
    _as_cheap_as_can_be = True
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Free what a file compiled: a worker would else hold 6 GB at the end."""
    yield
    jax.clear_caches()
    vars(_this_thread).clear()
    if trim := getattr(_LIBC, "malloc_trim", None):  # glibc keeps what is freed
        trim(0)
