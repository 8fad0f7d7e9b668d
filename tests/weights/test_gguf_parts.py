"""A GGUF file in parts: any of them leads to all, and a missing one is named."""

import gguf
import numpy as np
import pytest

from jaxdecode.weights import CheckpointError, load_model, open_checkpoint
from jaxdecode.weights.part_names import part_paths
from jaxdecode.weights.summary import summarize
from tests.weights.makers import _add, gguf_name, llama_tensors, write_gguf

COUNT = 3


def name(number, count=COUNT):
    return f"m-{number:05}-of-{count:05}.gguf"


def write_parts(folder, *, numbers=None, twice=False, total=None):
    """Write the tiny model in three parts, the last one with most tensors."""
    folder.mkdir(exist_ok=True)
    tensors = llama_tensors()
    names = sorted(tensors)
    shares = [names[:1], names[1:4], names[4:]]
    if twice:
        shares[1].append(names[0])
    total = len(tensors) if total is None else total
    numbers = numbers or list(range(COUNT))
    split = {"split__count": COUNT, "split__tensors__count": total}
    first = {n: tensors[n] for n in shares[0]}
    write_gguf(folder / name(1), tensors=first, split__no=numbers[0], **split)
    for number in range(1, COUNT):
        writer = gguf.GGUFWriter(folder / name(number + 1), "llama")
        _add(writer, "split.no", numbers[number])
        for key, value in split.items():
            _add(writer, key.replace("__", "."), value)
        for tensor in shares[number]:
            writer.add_tensor(gguf_name(tensor), tensors[tensor])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return folder


@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_part_leads_to_all(tmp_path, number):
    whole = open_checkpoint(write_gguf(tmp_path / "whole.gguf"))
    found = open_checkpoint(write_parts(tmp_path / "m") / name(number))
    assert found.config == whole.config
    assert found.eos_ids == whole.eos_ids
    assert set(found.tensors) == set(whole.tensors)
    for key, value in whole.tensors.items():
        np.testing.assert_array_equal(found.tensors[key], value)


def test_the_parts_have_one_converted_copy(tmp_path, cache):
    folder = write_parts(tmp_path / "m")
    for number in (3, 1, 2):
        load_model(folder / name(number))
    copies = list((cache / "converted").iterdir())
    assert len(copies) == 1
    made = copies[0].stat().st_mtime_ns
    for number in (1, 3):
        load_model(folder / name(number))
        assert copies[0].stat().st_mtime_ns == made
    data = (folder / name(2)).read_bytes()  # with another number it is another model
    (folder / name(2)).write_bytes(data[:-4] + b"\0\0\0\x3f")
    load_model(folder / name(3))
    assert copies[0].stat().st_mtime_ns > made


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_part_is_named(tmp_path, missing):
    folder = write_parts(tmp_path / "m")
    (folder / name(missing)).unlink()
    given = folder / name(1 if missing > 1 else 2)
    with pytest.raises(CheckpointError, match=rf"missing: {name(missing)}\."):
        open_checkpoint(given)
    with pytest.raises(CheckpointError, match=name(missing)):
        load_model(given)
    assert name(missing) in summarize(given).problems[0]


def test_several_missing_parts_are_named_together(tmp_path):
    folder = write_parts(tmp_path / "m")
    (folder / name(1)).unlink()
    (folder / name(3)).unlink()
    with pytest.raises(CheckpointError, match=f"{name(1)}; {name(3)}"):
        open_checkpoint(folder / name(2))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"numbers": [0, 2, 1]}, "must be part 1 of 3 .* got 2 of 3"),
        ({"numbers": [1, 1, 2]}, "must be part 0 of 3 .* got 1 of 3"),
        ({"twice": True}, "is in m-00001-of-00003.gguf too"),
        ({"total": 99}, "must have 99 tensors altogether"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path, how, message):
    folder = write_parts(tmp_path / "m", **how)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder / name(1))


def test_a_part_under_another_name_says_how_it_must_be_called(tmp_path):
    folder = write_parts(tmp_path / "m")
    (folder / name(1)).rename(folder / "first.gguf")
    with pytest.raises(CheckpointError, match="one of 3 parts.*-00001-of-00003.gguf"):
        open_checkpoint(folder / "first.gguf")


def test_a_file_that_is_named_like_a_part_must_be_one(tmp_path):
    path = write_gguf(tmp_path / name(1, count=1))
    write_gguf(tmp_path / name(1, count=2))
    write_gguf(tmp_path / name(2, count=2))
    with pytest.raises(CheckpointError, match="got None of None"):
        open_checkpoint(tmp_path / name(1, count=2))
    assert open_checkpoint(path).config.num_layers == 2


@pytest.mark.parametrize(
    "odd", ["m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-1-of-3.gguf", "m.gguf"]
)
def test_other_names_are_single_files(tmp_path, odd):
    assert part_paths(tmp_path / odd) == [tmp_path / odd]
