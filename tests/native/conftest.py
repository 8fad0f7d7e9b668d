"""These tests need the kernels; where there are none the reason is told."""

import pytest

from jaxdecode.native import why_unavailable


@pytest.fixture(autouse=True)
def _needs_kernels(request):
    if request.node.path.name != "test_library.py" and why_unavailable():
        pytest.skip(f"no kernels: {why_unavailable()}")
