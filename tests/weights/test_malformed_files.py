"""Broken and hostile files are refused, soon and without taking memory."""

import json
import struct
import time
import tracemalloc

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxdecode.weights import CheckpointError, read_table
from jaxdecode.weights.gguf_file import GGUFFile, is_decodable
from tests.weights.makers import GOLDEN, write_gguf

CASES = json.loads((GOLDEN / "malformed" / "manifest.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_a_malformed_file_gets_the_verdict_of_the_manifest(case):
    start = time.perf_counter()
    tracemalloc.start()
    try:
        read_table(GOLDEN / "malformed" / case["file"])
        verdict = "accept"
    except CheckpointError:
        verdict = "reject"
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert case["expect"] in (verdict, "either"), case["why"]
    assert time.perf_counter() - start < 2.0
    assert peak < 200e6


def test_the_error_names_the_file():
    with pytest.raises(CheckpointError, match=r"gg_bad_magic\.gguf: not a GGUF"):
        read_table(GOLDEN / "malformed" / "gg_bad_magic.gguf")


def header(*, version=3, tensors=0, pairs=0):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def text(value):
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (header(pairs=1) + text(b"k" * 70000), "70000 bytes"),
        (header(pairs=1) + text(b"\xff"), "UTF-8"),
        (header(pairs=1) + text(b"k") + struct.pack("<IQ", 8, 2**40), "a string of"),
        (header(pairs=1) + text(b"k") + struct.pack("<IIQ", 9, 4, 9), "ends inside"),
        (header(pairs=2) + 2 * (text(b"k") + struct.pack("<IB", 0, 1)), "twice"),
        (
            header(pairs=1) + text(b"general.alignment") + struct.pack("<Ii", 5, 32),
            "must be a uint32",
        ),
        (
            header(pairs=1) + text(b"general.alignment") + struct.pack("<II", 4, 24),
            "power of two",
        ),
        (header(tensors=1) + text(b"a") + struct.pack("<I", 0), "1 to 4 axes"),
        (
            header(tensors=1) + text(b"a") + struct.pack("<IQIQ", 1, 4, 4, 0),
            "unknown type 4",
        ),
        (
            header(tensors=1) + text(b"a") + struct.pack("<IQIQ", 1, 31, 8, 0),
            "multiple of 32",
        ),
        (header(version=1), "version must be 2 or 3"),
    ],
)
def test_a_gguf_header_that_breaks_a_rule_is_refused_by_that_rule(
    tmp_path, body, message
):
    path = tmp_path / "x.gguf"
    path.write_bytes(body)
    with pytest.raises(CheckpointError, match=message):
        read_table(path)


def test_a_large_array_is_refused_before_it_becomes_python_objects(tmp_path):
    count = 3 * 2**20
    head = header(pairs=1) + text(b"k") + struct.pack("<IIQ", 9, 0, count)
    (tmp_path / "x.gguf").write_bytes(head + bytes(count))
    with pytest.raises(CheckpointError, match="arrays hold more than"):
        read_table(tmp_path / "x.gguf")


def test_every_cut_of_a_gguf_file_is_refused(tmp_path):
    whole = write_gguf(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for size in range(0, len(whole), 211):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            GGUFFile(path)


def test_every_cut_of_a_safetensors_file_is_refused(tmp_path):
    save_file({"a": np.ones((7, 3), np.float32)}, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            read_table(path)


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_a_pickle_file_is_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError, match="pickle"):
        read_table(tmp_path / name)


def test_a_missing_file_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_table(tmp_path / "absent.gguf")


def test_a_folder_is_no_tensor_file(tmp_path):
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_table(tmp_path / "x.safetensors")


def test_metadata_equals_what_the_gguf_library_reads(tmp_path):
    path = write_gguf(tmp_path / "x.gguf")
    reader = gguf.GGUFReader(path)
    expected = {
        key: field.contents()
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }
    assert GGUFFile(path).metadata == expected


KINDS = [kind.name for kind in gguf.GGMLQuantizationType if is_decodable(kind.name)]


def test_all_quantised_types_of_the_library_are_decodable():
    assert len(KINDS) >= 24
    assert {"F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q6_K", "IQ4_XS"} <= set(
        KINDS
    )


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_equal_what_the_gguf_library_reads(tmp_path, kind):
    kind = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(5)
    # So many rows that some are decoded as one line, and that there are several lines.
    raw = rng.integers(0, 64, (34, 2 * 256 // block * size), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("a", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stored = gguf.GGUFReader(tmp_path / "x.gguf").tensors[0]
    expected = gguf.dequantize(stored.data, kind)
    found = GGUFFile(tmp_path / "x.gguf").read("a")
    assert found.shape == (34, 512)
    np.testing.assert_array_equal(found, expected)
