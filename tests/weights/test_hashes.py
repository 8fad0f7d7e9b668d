"""A file whose hash was taken once is believed only while nothing touched it."""

import json
import os
import threading

import numpy as np
import pytest

from jaxdecode.weights import converted, hashes, open_checkpoint
from jaxdecode.weights.converted import converted_place, open_converted
from jaxdecode.weights.hashes import sha256, sha256_of
from tests.weights.makers import llama_tensors, write_gguf


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one" * 1000)
    return path


@pytest.fixture
def reads(monkeypatch):
    """Count how often a file is read to be hashed."""
    seen = []

    def counting(path):
        seen.append(path)
        return sha256(path)

    monkeypatch.setattr(hashes, "sha256", counting)
    return seen


def in_place(path, data):
    path.write_bytes(data)


def in_one_step(path, data):
    other = path.with_name("other")
    other.write_bytes(data)
    os.replace(other, path)


def by_hand(path, data):
    with path.open("r+b") as file:
        file.write(data)


WAYS = [in_place, in_one_step, by_hand]


def changed(path, way):
    """Change one byte, and set the modification time back; path and size stay."""
    before = path.stat()
    data = path.read_bytes()
    way(path, data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_file_is_read_once(file, reads):
    assert {sha256_of(file) for _ in range(3)} == {sha256(file)}
    assert len(reads) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_change_shows_though_path_size_and_time_are_the_same(file, way):
    sha256_of(file)
    changed(file, way)
    assert sha256_of(file) == sha256(file)


def test_a_file_of_this_moment_is_hashed_when_the_clock_has_moved(file, monkeypatch):
    slept = []
    monkeypatch.setattr(hashes.time, "sleep", slept.append)
    changed = file.stat().st_mtime
    for now in (changed + 0.001, changed + 1.0, changed - 1.0):
        monkeypatch.setattr(hashes.time, "time", lambda now=now: now)
        hashes.forget(file)
        sha256_of(file)
    assert slept == [hashes.GRAIN]


def test_a_change_in_the_same_tick_of_the_clock_shows(file):
    for number in range(30):
        file.write_bytes(b"%04d" % number)
        assert sha256_of(file) == sha256(file)


def test_a_note_that_somebody_else_may_write_is_not_believed(file, cache):
    sha256_of(file)
    (note,) = (cache / "verified").iterdir()
    note.write_text(json.dumps(json.loads(note.read_text()) | {"sha256": "forged"}))
    assert sha256_of(file) == "forged"  # by this user: as good as the file itself
    note.chmod(0o666)
    assert sha256_of(file) == sha256(file)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"mark": 5}', "\0"])
def test_a_damaged_note_is_not_believed(file, cache, text):
    sha256_of(file)
    (note,) = (cache / "verified").iterdir()
    note.write_text(text)
    assert sha256_of(file) == sha256(file)


def test_whole_seconds_say_nothing(file, reads, monkeypatch):
    monkeypatch.setattr(hashes, "_mark", lambda path: [])
    for _ in range(2):
        assert sha256_of(file) == sha256(file)
    assert len(reads) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_converted_copy_of_another_content_is_made_anew(tmp_path, way):
    source = write_gguf(tmp_path / "x.gguf")
    old = open_converted(source, "float32").tensors["norm.weight"].copy()
    changed(source, way)
    found = open_converted(source, "float32").tensors
    for name, value in open_checkpoint(source).tensors.items():
        np.testing.assert_array_equal(found[name], value)
    assert old.shape == found["norm.weight"].shape


def test_a_source_that_is_only_touched_is_not_decoded_again(tmp_path, monkeypatch):
    source = write_gguf(tmp_path / "x.gguf")
    open_converted(source, "float32")
    os.utime(source, (1, 1))
    monkeypatch.setattr(converted, "open_checkpoint", None)
    assert open_converted(source, "float32").shareable


def test_a_copy_that_somebody_else_may_write_is_made_anew(tmp_path):
    source = write_gguf(tmp_path / "x.gguf")
    open_converted(source, "float32")
    place = converted_place(source, "float32")
    place.chmod(0o666)
    open_converted(source, "float32")
    assert not place.stat().st_mode & 0o002


def test_a_source_that_changes_while_it_is_read_leaves_no_copy(tmp_path, monkeypatch):
    source = write_gguf(tmp_path / "x.gguf")
    tensors = llama_tensors()
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + np.float32(1)
    other = write_gguf(tmp_path / "y.gguf", tensors=tensors)

    first = source.read_bytes()

    def slow(path):
        if other.exists():
            os.replace(other, path)
        return open_checkpoint(path)

    monkeypatch.setattr(converted, "open_checkpoint", slow)
    found = open_converted(source, "float32").tensors["head.weight"]
    np.testing.assert_array_equal(found, tensors["lm_head.weight"])
    source.write_bytes(first)
    found = open_converted(source, "float32").tensors["head.weight"]
    np.testing.assert_array_equal(found, llama_tensors()["lm_head.weight"])


def test_many_readers_at_once_get_the_same_hash(file):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(sha256_of(file))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sha256(file)] * 8
