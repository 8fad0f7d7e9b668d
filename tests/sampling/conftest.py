"""What the tests of draws share."""

import pytest

from jaxdecode.native import is_available


@pytest.fixture(params=["kernel", "XLA"])
def way(request, monkeypatch):
    """Run a test by the kernels and again without them; trace anew in it."""
    if request.param == "XLA":
        monkeypatch.setenv("JAXDECODE_NATIVE", "off")
    elif not is_available():
        pytest.skip("needs the kernels")
