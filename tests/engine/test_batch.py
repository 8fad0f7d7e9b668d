"""A line in, a line out: the right one, whatever the company and the interruptions."""

import copy
import gzip
import io
import json
import random
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zstandard

import jaxdecode as jd
from jaxdecode.engine import Engine
from jaxdecode.engine.batch import Defaults, merge, run_batch
from jaxdecode.engine.batch.merging import Incomplete
from jaxdecode.engine.batch.resuming import OtherRun
from jaxdecode.engine.batch.running import fingerprint_of, first_row
from jaxdecode.native import pack
from tests.engine.engine_cases import engine, language_model
from tests.engine.lines import DEFAULTS, answered, good_lines, objects, write

LINES = good_lines(20)
ARCHIVES = [pytest.param(e, marks=pytest.mark.slow) for e in (".gz", ".zst")]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("in") / "in.jsonl", LINES)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The output of a run that nothing disturbs."""
    return answered(source, tmp_path_factory.mktemp("out") / "out.jsonl")


def test_a_plain_line_is_answered_as_generate_does(whole):
    lm, line, found = language_model(), LINES[0], objects(whole)[0]
    sampler = jd.joint(temperature=line["temperature"], top_k=12)
    options = {"sampler": sampler, "max_new_tokens": line["max_tokens"]}
    assert found["id"] == line["id"]
    assert (
        found["text"] == lm.generate([line["prompt"]], key=[line["seed"]], **options)[0]
    )
    assert found["usage"]["prompt_tokens"] == len(line["prompt"])
    assert found["usage"]["completion_tokens"] <= line["max_tokens"]
    assert found["finish_reason"] in ("stop", "length")
    assert len(found["fingerprint"]) == 16


def test_an_envelope_is_answered_in_an_envelope(whole):
    found = objects(whole)[3]
    assert found["custom_id"] == "chat-3"
    assert found["error"] is None
    body = found["response"]["body"]
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    count = body["usage"]["completion_tokens"]
    assert len(choice["logprobs"]["content"]) == count
    assert found["response"]["status_code"] == 200


def test_samples_tokens_and_logprobs_are_there_on_request(whole):
    found = objects(whole)
    assert len(found[1]["tokens"]) == found[1]["usage"]["completion_tokens"]
    assert "logprobs" not in found[1]
    assert [choice["index"] for choice in found[2]["choices"]] == [0, 1]
    assert found[2]["choices"][0]["text"] == found[2]["text"]
    assert all(p <= 0 for p in found[2]["logprobs"])
    choices = found[4]["response"]["body"]["choices"]
    assert [len(c["logprobs"]["tokens"]) > 0 for c in choices] == [True, True]


def test_every_line_is_answered_in_order(whole):
    names = [line.get("id", line.get("custom_id")) for line in LINES]
    found = [line.get("custom_id", line.get("id")) for line in objects(whole)]
    assert found == names


def test_a_line_without_a_seed_takes_one_from_its_id(source, tmp_path):
    lines = [{"id": name, "prompt": "abc"} for name in ("a", "b", "a2")]
    one = objects(answered(write(tmp_path / "a", lines), tmp_path / "1"))
    two = objects(answered(write(tmp_path / "b", lines[::-1]), tmp_path / "2"))
    assert one == two[::-1]
    assert len({line["seed"] for line in one}) == 3
    other = Defaults(DEFAULTS.sampling, max_tokens=6, seed=6)
    three = objects(answered(tmp_path / "a", tmp_path / "3", defaults=other))
    assert three[0]["seed"] != one[0]["seed"]


def test_shuffled_lines_and_other_sizes_give_the_same_answers(whole, tmp_path):
    order = random.Random(1).sample(range(len(LINES)), len(LINES))
    shuffled = write(tmp_path / "in", [LINES[i] for i in order])
    to = engine(chunk=3, prefill=100, pools=1, prefixes=0)
    found = answered(shuffled, tmp_path / "out", to=to).splitlines()
    assert found == [whole.splitlines()[i] for i in order]


@pytest.mark.parametrize("ending", ["", *ARCHIVES])
def test_merged_shards_are_the_whole(ending, source, whole, tmp_path):
    parts = [tmp_path / f"part{i}.jsonl{ending}" for i in range(3)]
    for i, part in enumerate(parts):
        answered(source, part, shard=(i, 3))
    target = tmp_path / f"all.jsonl{ending}"
    names = [str(part) for part in parts]
    assert merge(str(target), names, source=source) == len(LINES)
    data = target.read_bytes()
    if ending == ".gz":
        data = gzip.decompress(data)
    elif ending == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    assert data == whole


def test_merge_refuses_what_is_not_the_whole(source, tmp_path):
    parts = [tmp_path / f"part{i}" for i in range(2)]
    for i, part in enumerate(parts):
        answered(source, part, shard=(i, 2))
    names, target = [str(part) for part in parts], tmp_path / "all"
    with pytest.raises(Incomplete, match="must answer"):
        merge(str(target), names[::-1], source=source)
    with pytest.raises(Incomplete, match="twice"):
        merge(str(target), [names[0], names[0]])
    data = parts[1].read_bytes()
    parts[1].write_bytes(data[:-1])
    with pytest.raises(Incomplete, match="torn"):
        merge(str(target), names)
    lines = data.splitlines(keepends=True)
    parts[1].write_bytes(b"".join(lines[:-1]))
    with pytest.raises(Incomplete, match="not answered"):
        merge(str(target), names, source=source)
    parts[1].write_bytes(b"".join(lines[:-2]))
    with pytest.raises(Incomplete, match="ends before line 9"):
        merge(str(target), names)
    parts[1].write_bytes(data.replace(b'int": "', b'int": "0'))
    with pytest.raises(Incomplete, match="other settings"):
        merge(str(target), names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part0", "part1"]


def ends_of_two_lines(data):
    """Every length that cuts the last two lines somewhere."""
    lines = data.splitlines(keepends=True)
    return range(len(data) - len(lines[-1]) - len(lines[-2]), len(data) + 1)


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_file_cut_at_any_byte_goes_on_to_the_same_bytes(step, tmp_path):
    lines = [{"id": i, "prompt": "ab", "max_tokens": 1} for i in range(3)]
    source = write(tmp_path / "in", lines)
    target, to = tmp_path / "out", engine()
    whole = answered(source, target, to=to)
    for size in ends_of_two_lines(whole)[::step]:
        target.write_bytes(whole[:size])
        assert answered(source, target, to=to) == whole, size


@pytest.mark.parametrize("size", [0, 1, 2, 3, 9])
def test_a_file_cut_in_its_first_line_begins_anew(size, source, whole, tmp_path):
    target = tmp_path / "out"
    target.write_bytes(whole[:size])
    assert answered(source, target) == whole


@pytest.mark.parametrize("ending", ARCHIVES)
def test_a_cut_archive_goes_on_to_the_same_lines(ending, source, whole, tmp_path):
    target = tmp_path / f"out{ending}"
    answered(source, target)
    data = target.read_bytes()
    for size in random.Random(0).sample(range(len(data)), 6):
        target.write_bytes(data[:size])
        found = answered(source, target)
        if ending == ".gz":
            assert gzip.decompress(found) == whole
        else:
            reader = zstandard.ZstdDecompressor().stream_reader(
                io.BytesIO(found), read_across_frames=True
            )
            assert reader.read() == whole


def test_blocks_of_zeros_after_a_power_failure_are_cut_off(source, whole, tmp_path):
    target = tmp_path / "out"
    end = len(b"".join(whole.splitlines(keepends=True)[:3]))
    for tail in (b"\0" * 50, b'{"id": 3, \0\0\0\0}\n' + b"\0\0"):
        target.write_bytes(whole[:end] + tail)
        assert answered(source, target) == whole


def test_kept_answers_are_not_written_again(source, whole, tmp_path):
    target, to = tmp_path / "out", engine()
    target.write_bytes(b"".join(whole.splitlines(keepends=True)[:17]))
    summary = run_batch(to, source, str(target), defaults=DEFAULTS)
    assert (summary.kept, summary.answered) == (17, 3)
    assert to.statistics.requests == 3


OTHER = {
    "settings": lambda source: {"defaults": Defaults(max_tokens=7)},
    "length": lambda source: {"to": engine(length=32)},
}
SLOW = [
    pytest.param(v, id=k, marks=[pytest.mark.slow] * (k == "length"))
    for k, v in OTHER.items()
]


@pytest.mark.parametrize("changed", SLOW)
def test_other_settings_are_refused_unless_told_otherwise(
    changed, source, whole, tmp_path
):
    target = tmp_path / "out"
    part = b"".join(whole.splitlines(keepends=True)[:18])
    target.write_bytes(part)
    with pytest.raises(OtherRun, match="other settings"):
        answered(source, target, **changed(source))
    assert target.read_bytes() == part
    found = answered(source, target, allow_changes=True, **changed(source))
    assert found.startswith(part)
    assert len(found.splitlines()) == len(LINES)
    again = answered(source, target, restart=True)
    assert again == whole


@pytest.mark.parametrize(
    "data",
    [
        b"notes of mine\n",
        b"notes of mine",
        b'{"id": "another"}\n',
        b"{}\n",
        b"\x89PNG\0\0",
        b'[1]\n{"id": 0}\n',
    ],
)
def test_a_file_that_is_no_output_is_left_as_it_is(data, source, tmp_path):
    target = tmp_path / "out"
    target.write_bytes(data)
    with pytest.raises(OtherRun):
        answered(source, target)
    assert target.read_bytes() == data


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("shape", [(37, 11), (64, 8)])
def test_weights_are_told_apart_in_any_layout(kind, shape):
    numbers = np.random.default_rng(0).integers(-99, 99, shape)
    matrix = jnp.asarray(numbers).astype(kind)
    assert first_row(matrix) == np.asarray(matrix)[0].tobytes()
    assert first_row(pack(matrix)) == first_row(matrix)
    assert first_row(matrix[0]) == first_row(matrix)


def test_other_matrices_are_other_settings():
    lm = language_model("llama")
    leaves, tree = jax.tree.flatten(lm.model)
    places = [i for i, leaf in enumerate(leaves) if np.ndim(leaf) > 1]
    assert len(places) > 7
    found = {fingerprint_of(Engine(lm, length=48), DEFAULTS)}
    for place in places:
        changed = [*leaves]
        changed[place] = leaves[place] + 1
        other = copy.copy(lm)
        other.model = jax.tree.unflatten(tree, changed)
        found.add(fingerprint_of(Engine(other, length=48), DEFAULTS))
    assert len(found) == 1 + len(places)


def test_an_output_longer_than_its_input_is_refused(source, whole, tmp_path):
    target = tmp_path / "out"
    target.write_bytes(whole)
    with pytest.raises(OtherRun, match="fewer lines"):
        answered(write(tmp_path / "in", LINES[:-1]), target)
    assert target.read_bytes() == whole


def test_standard_input_and_output_may_be_used(source, whole, monkeypatch):
    class Stream:
        def __init__(self, data=b""):
            self.buffer = io.BytesIO(data)

    with open(source, "rb") as file:
        monkeypatch.setattr(sys, "stdin", Stream(file.read()))
    monkeypatch.setattr(sys, "stdout", Stream())
    run_batch(engine(), "-", "-", defaults=DEFAULTS)
    assert sys.stdout.buffer.getvalue() == whole


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_compressed_input_is_read(ending, source, whole, tmp_path):
    with open(source, "rb") as file:
        data = file.read()
    pack = gzip.compress if ending == ".gz" else zstandard.ZstdCompressor().compress
    packed = tmp_path / f"in{ending}"
    packed.write_bytes(pack(data))
    assert answered(packed, tmp_path / "out") == whole


def test_two_processes_do_not_write_one_file(source, tmp_path):
    from jaxdecode.engine.batch.files import LineWriter

    first = LineWriter(str(tmp_path / "out"))
    first.lock()
    with pytest.raises(ValueError, match="another process"):
        answered(source, tmp_path / "out")
    first.close()


def test_what_lies_between_input_and_output_is_bounded(tmp_path, monkeypatch):
    from jaxdecode.engine.batch import running

    monkeypatch.setattr(running, "AHEAD_MIN", 8)
    monkeypatch.setattr(running, "AHEAD", 1)
    source = write(tmp_path / "in", [{"id": i, "prompt": "a"} for i in range(60)])
    lines, taken, most = running.read_lines(source), [0], [0]

    def counted():
        for line in lines:
            taken[0] += 1
            yield line

    monkeypatch.setattr(running, "read_lines", lambda path: counted())

    def progress(summary, to):
        most[0] = max(most[0], taken[0] - summary.answered)

    target = str(tmp_path / "out")
    run_batch(engine(), source, target, defaults=DEFAULTS, progress=progress)
    assert taken == [60]
    assert 0 < most[0] <= 9


def test_the_summary_counts_what_happened(source, tmp_path):
    to = engine()
    summary = run_batch(to, source, str(tmp_path / "out"), defaults=DEFAULTS)
    found = json.loads(json.dumps(summary.as_dict()))
    assert found["answered"] == len(LINES)
    assert found["failed"] == found["kept"] == found["recompiled"] == 0
    data = objects((tmp_path / "out").read_bytes())
    usages = [
        line["usage"]
        if "id" in line and "usage" in line
        else line["response"]["body"]["usage"]
        for line in data
    ]
    total = sum(usage["completion_tokens"] for usage in usages)
    assert found["generated_tokens"] == total
    assert found["prompt_tokens"] == sum(usage["prompt_tokens"] for usage in usages)
    assert 0 < found["slot_occupancy"] <= 1
