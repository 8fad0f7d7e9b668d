"""Patterns that are built in tests are not left in the user's cache."""

import pytest

from jaxdecode.transforms.patterns import store


@pytest.fixture(autouse=True, scope="package")
def _own_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "cache_folder", lambda: folder)
        yield
