"""No test of this folder sees the user's cache or models."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Give each test an empty cache folder of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("JAXDECODE_CACHE", str(folder))
    monkeypatch.delenv("JAXDECODE_SMOLLM2_135M", raising=False)
    return folder
