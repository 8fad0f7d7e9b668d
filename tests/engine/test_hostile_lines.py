"""A bad line gets a line that says so; the good ones around it never notice."""

import random

import pytest

from jaxdecode.engine.batch import lines as batch_lines
from tests.engine.engine_cases import engine
from tests.engine.hostile import CODES, bad_line
from tests.engine.lines import answered, good_lines, objects, write

GOOD = [{"id": f"good-{i}"} | line for i, line in enumerate(good_lines(6)[::5] * 2)]
GOOD = [{**line, "id": f"good-{i}"} for i, line in enumerate(GOOD)]


def mixed(count, seed):
    """Return bad lines with good ones in between, and where these are."""
    rng = random.Random(seed)
    found, places = [GOOD[0]], [0]
    for index in range(count):
        if index % (count // 3) == 5:
            places.append(len(found))
            found.append(GOOD[len(places) - 1])
        found.append(bad_line(rng, index))
    return found, places


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_each_bad_line_gets_an_error_line(count, tmp_path):
    lines, places = mixed(count, seed=count)
    assert len(places) == 4
    source = write(tmp_path / "in", lines)
    found = objects(answered(source, tmp_path / "out"))
    assert len(found) == len(lines)
    wanted = objects(answered(write(tmp_path / "good", GOOD[:4]), tmp_path / "alone"))
    assert [found[place] for place in places] == wanted
    codes = set()
    for number, answer in enumerate(found, 1):
        if number - 1 in places:
            continue
        assert answer.get("error"), (lines[number - 1][:300], answer)
        assert answer["error"]["line"] == number
        assert answer["error"]["message"]
        codes.add(answer["error"]["code"])
        assert answer.get("response") is None
    assert codes <= CODES
    assert CODES - codes <= {"line_too_long"}
    names = [answer.get("custom_id", answer.get("id")) for answer in found]
    known = [name for name in names if name is not None]
    assert len(set(known)) == len(known)


def test_a_run_of_bad_lines_goes_on_where_it_stopped(tmp_path):
    lines, _ = mixed(90, seed=3)
    source, target = write(tmp_path / "in", lines), tmp_path / "out"
    to = engine()
    whole = answered(source, target, to=to)
    for size in random.Random(0).sample(range(len(whole)), 12):
        target.write_bytes(whole[:size])
        assert answered(source, target, to=to) == whole


def test_a_line_that_is_too_long_is_not_held(tmp_path, monkeypatch):
    from jaxdecode.engine.batch import files

    for module in (files, batch_lines):
        monkeypatch.setattr(module, "SIZE_MAX", 300)
    long = b'{"id": 1, "prompt": "' + b"a" * 1000 + b'"}'
    source = write(tmp_path / "in", [GOOD[0], long, GOOD[1]])
    assert [len(line) for line in files.read_lines(source)][1] == 302
    found = objects(answered(source, tmp_path / "out"))
    assert [line.get("error", {}).get("code") for line in found] == [
        None,
        "line_too_long",
        None,
    ]


def test_blank_lines_and_windows_ends_are_no_lines(tmp_path):
    source = tmp_path / "in"
    source.write_bytes(
        b'\xef\xbb\xbf{"id": 1, "prompt": "a"}\r\n\r\n  \n{"id": 2, "prompt": "a"}'
    )
    found = objects(answered(source, tmp_path / "out"))
    assert [line["id"] for line in found] == [1, 2]
    assert all("text" in line for line in found)
