"""The converted copy of a GGUF file is trusted only as far as it was checked."""

import json
import os
import threading
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxdecode.weights import converted, open_checkpoint
from jaxdecode.weights.converted import converted_place, open_converted
from tests.weights.makers import llama_tensors, write_gguf


@pytest.fixture
def source(tmp_path):
    return write_gguf(tmp_path / "x.gguf")


@pytest.fixture
def decodings(monkeypatch):
    """Count how often a GGUF file is decoded."""
    opened = []

    def counting(path):
        opened.append(path)
        return open_checkpoint(path)

    monkeypatch.setattr(converted, "open_checkpoint", counting)
    return opened


def same_tensors(a, b):
    assert set(a.tensors) == set(b.tensors)
    for name in a.tensors:
        np.testing.assert_array_equal(a.tensors[name], b.tensors[name])


def test_the_copy_has_the_same_tensors_and_facts(source):
    fresh = open_checkpoint(source)
    open_converted(source, "float32")
    kept = open_converted(source, "float32")
    assert kept.shareable
    same_tensors(kept, fresh)
    for name in ("config", "tokenizer", "eos_ids", "bos_id", "pad_id", "chat_template"):
        assert getattr(kept, name) == getattr(fresh, name)
    assert kept.name == fresh.name


def test_a_kept_copy_is_not_decoded_again(source, decodings):
    for _ in range(3):
        open_converted(source, "float32")
    assert len(decodings) == 1


def test_each_dtype_has_a_copy_of_its_own(source, decodings):
    exact = open_converted(source, "float32").tensors
    rounded = open_converted(source, "bfloat16").tensors
    assert len(decodings) == 2
    assert rounded["norm.weight"].dtype == np.float32
    np.testing.assert_array_equal(
        rounded["head.weight"], exact["head.weight"].astype(ml_dtypes.bfloat16)
    )


def test_the_copy_is_a_valid_safetensors_file(source):
    open_converted(source, "float32")
    stored = load_file(converted_place(source, "float32"))
    np.testing.assert_array_equal(
        stored["embedding.weight"], llama_tensors()["model.embed_tokens.weight"]
    )


def test_large_tensors_of_the_copy_start_on_64_bytes(source):
    tensors = open_converted(source, "float32").tensors
    whole = [v for v in tensors.values() if v.nbytes % 64 == 0]
    assert whole
    assert all(value.ctypes.data % 64 == 0 for value in whole)


def corrupt_header(data):
    return data[:300] + bytes([data[300] ^ 1]) + data[301:]


def corrupt_template(data):
    return data.replace(b"{{ messages }}", b"{{ messagez }}")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:-300] + bytes(200) + data[-100:],
        lambda data: data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:],
        corrupt_header,
        corrupt_template,
    ],
)
def test_a_damaged_copy_is_made_anew(source, decodings, damage):
    open_converted(source, "float32")
    place = converted_place(source, "float32")
    good = place.read_bytes()
    bad = damage(good)
    assert bad != good
    place.write_bytes(bad)
    again = open_converted(source, "float32")
    assert len(decodings) == 2
    assert place.read_bytes() == good
    same_tensors(again, open_checkpoint(source))


def test_a_changed_source_is_decoded_again(source, decodings):
    open_converted(source, "float32")
    tensors = llama_tensors()
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + np.float32(1)
    write_gguf(source, tensors=tensors)
    stat = source.stat()
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    found = open_converted(source, "float32").tensors["head.weight"]
    assert len(decodings) == 2
    np.testing.assert_array_equal(found, tensors["lm_head.weight"])


def test_another_version_of_the_format_is_decoded_again(source, decodings, monkeypatch):
    open_converted(source, "float32")
    monkeypatch.setattr(converted, "VERSION", converted.VERSION + 1)
    open_converted(source, "float32")
    assert len(decodings) == 2


def test_files_of_one_name_in_two_folders_are_two_copies(tmp_path):
    (tmp_path / "sub").mkdir()
    a, b = tmp_path / "x.gguf", tmp_path / "sub" / "x.gguf"
    assert converted_place(a, "float32") != converted_place(b, "float32")


def test_an_interrupted_conversion_leaves_nothing_behind(source, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(converted, "_sum", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_converted(source, "float32")
    assert list(converted_place(source, "float32").parent.iterdir()) == []


def test_leftovers_of_killed_processes_are_swept(source):
    place = converted_place(source, "float32")
    place.parent.mkdir(parents=True)
    old, new = place.parent / ".writing-old", place.parent / ".writing-new"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    open_converted(source, "float32")
    assert not old.exists()
    assert new.exists()


def test_a_cache_folder_that_cannot_be_written_costs_a_warning_only(
    source, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXDECODE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be kept"):
        opened = open_converted(source, "float32")
    assert not opened.shareable
    same_tensors(opened, open_checkpoint(source))


def test_writers_at_the_same_time_both_get_the_model(source):
    fresh = open_checkpoint(source)
    found = []

    def work():
        found.append(open_converted(source, "float32"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4
    for opened in found:
        same_tensors(opened, fresh)


def test_a_copy_of_other_shapes_is_not_used(source, decodings):
    open_converted(source, "float32")
    place = converted_place(source, "float32")
    data = place.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["head.weight"]["shape"].reverse()
    text = json.dumps(header).encode().ljust(size)
    place.write_bytes(data[:8] + text + data[8 + size :])
    open_converted(source, "float32")
    assert len(decodings) == 2


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not LARGE_PAGES.exists(), reason="a system without large pages")
def test_a_kept_copy_is_mapped_in_large_pages_where_the_system_has_them(source):
    kept = open_converted(source, "float32")
    place = converted_place(source, "float32")
    maps = Path("/proc/self/smaps").read_text().split(str(place))[1:]
    assert kept.tensors  # it holds the map
    assert maps
    flags = [next(x for x in m.splitlines() if x.startswith("VmFlags")) for m in maps]
    assert all(" hg" in line for line in flags)  # advised


def test_a_new_copy_is_on_the_disk_before_it_is_forgotten(source, monkeypatch):
    done = []

    def noted(name):
        own = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a: (done.append(name), own(*a))[1])

    for name in ("fsync", "posix_fadvise", "replace"):
        noted(name)
    open_converted(source, "float32")
    assert done[-3:] == ["fsync", "posix_fadvise", "replace"]
