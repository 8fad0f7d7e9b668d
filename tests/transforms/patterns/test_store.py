"""A pattern that was built once is read from disk, unless its file is damaged."""

import numpy as np
import pytest

from jaxdecode.core.pytree import same
from jaxdecode.transforms.patterns import compiling, store
from tests.transforms.patterns.samples import TOKENS

PLAIN = tuple(token or b"" for token in TOKENS)
NONE = np.zeros(0, np.int32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    return tmp_path / store.FOLDER


def made(pattern="[ab]+0", tokens=PLAIN):
    compiling._compiled.cache_clear()
    return compiling.compile_tables("regex", pattern, tokens, eos_ids=NONE, finish=True)


def never(*_):
    raise AssertionError("built again")


def test_it_is_read_the_next_time(folder, monkeypatch):
    first = made()
    monkeypatch.setattr(compiling, "build", never)
    assert same(made(), first)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("tokens", [PLAIN[:-1], (*PLAIN[:-3], b"zz", b"", b"")])
def test_another_vocabulary_is_another_file(folder, tokens):
    made()
    made(tokens=tokens)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04" + b"0" * 99])
def test_a_damaged_file_is_built_again(folder, content):
    first = made()
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert same(made(), first)
    assert path.stat().st_size > 200


def test_a_file_cut_short_is_built_again(folder):
    first = made()
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-300])
    assert same(made(), first)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path / "file")
    assert made().size == len(PLAIN)


def test_the_least_recently_used_make_room(folder, monkeypatch):
    made("a")
    (old,) = folder.iterdir()
    monkeypatch.setattr(store, "SIZE_MAX", old.stat().st_size + 100)
    made("b")
    assert len(list(folder.iterdir())) == 1
    assert not old.exists()
