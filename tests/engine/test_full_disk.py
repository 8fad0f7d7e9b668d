"""A full disk loses nothing: what was written stays, and the same command goes on."""

import contextlib
import random
import resource
import shutil
import subprocess
import sys

import pytest

from jaxdecode.engine.batch.files import kept_lines
from tests.engine.engine_cases import engine
from tests.engine.lines import answered, good_lines, write
from tests.engine.test_killed import MODEL, requests

ARCHIVES = [pytest.param(e, marks=pytest.mark.slow) for e in (".gz", ".zst")]
NAMESPACE = ["unshare", "--mount", "--map-root-user"]
DISK = """
set -e
mount -t tmpfs -o size=16k none "$1"
code=0
"${@:3}" 2> "$2.error" || code=$?
echo "$code" > "$2.code"
cp "$1/out.jsonl" "$2.before"
mount -o remount,size=8m "$1"
"${@:3}"
cp "$1/out.jsonl" "$2"
"""


@contextlib.contextmanager
def room(size):
    """Let files grow to a size only: the kernel writes what fits and refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def whole_lines(path):
    return [line for line, is_whole in kept_lines(str(path)) if is_whole]


@pytest.mark.parametrize("ending", ["", *ARCHIVES])
def test_a_file_that_cannot_grow_keeps_what_it_has_and_is_gone_on_with(
    ending, tmp_path
):
    source, target = write(tmp_path / "in", good_lines(20)), tmp_path / f"out{ending}"
    to = engine()
    answered(source, tmp_path / f"whole{ending}", to=to)
    whole = whole_lines(tmp_path / f"whole{ending}")
    size = (tmp_path / f"whole{ending}").stat().st_size
    limits = [0, 1, *sorted(random.Random(1).sample(range(2, size), 3)), size - 1]
    kept = []
    for limit in limits:
        with room(limit), pytest.raises(OSError, match="File too large"):
            answered(source, target, to=engine())
        assert target.stat().st_size <= limit
        kept.append(whole_lines(target))
        assert sorted(path.name for path in tmp_path.glob("out*")) == [target.name]
        assert kept[-1] == whole[: len(kept[-1])]
    assert [len(lines) for lines in kept] == sorted(map(len, kept))  # none is lost
    answered(source, target, to=engine())
    assert whole_lines(target) == whole


def can_mount(folder):
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_the_command_goes_on_after_a_disk_was_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not (shutil.which("bash") and can_mount(disk)):
        pytest.skip("needs the right to mount a small disk in a namespace of its own")
    (tmp_path / "in.jsonl").write_text("".join(requests(200)))

    def command(target):
        files = [str(tmp_path / "in.jsonl"), str(target), "--model", str(MODEL)]
        sizes = ["--slots", "3", "--length", "48"]
        return [sys.executable, "-m", "jaxdecode", "batch", *files, *sizes]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    arguments = [str(disk), str(tmp_path / "out"), *command(disk / "out.jsonl")]
    shell = ["bash", "-c", DISK, "full-disk", *arguments]
    subprocess.run([*NAMESPACE, *shell], check=True, capture_output=True)
    assert (tmp_path / "out.code").read_text().strip() == "2"
    assert "No space left" in (tmp_path / "out.error").read_text()
    whole = (tmp_path / "whole").read_bytes()
    before = (tmp_path / "out.before").read_bytes()
    assert 0 < len(before) < len(whole)
    assert whole.startswith(before)
    assert (tmp_path / "out").read_bytes() == whole
