"""These tests need the kernels; where there are none the reason is told."""

import shutil

import pytest

from jaxdecode.native import library, why_unavailable

NEED_NONE = ("test_library.py", "test_token_kernel.py", "test_token_proof.py")


@pytest.fixture(autouse=True)
def _needs_kernels(request):
    if request.node.path.name not in NEED_NONE and why_unavailable():
        pytest.skip(f"no kernels: {why_unavailable()}")


@pytest.fixture(scope="session")
def quick_cc(tmp_path_factory):
    """Return a compiler that optimizes little, for kernels that are only loaded."""
    compiler = next(filter(None, map(shutil.which, library._COMPILERS)), None)
    made = tmp_path_factory.mktemp("compiler") / "cc"
    made.write_text(f'#!/bin/sh\nexec "{compiler}" "$@" -O1\n')
    made.chmod(0o755)
    return str(made)
