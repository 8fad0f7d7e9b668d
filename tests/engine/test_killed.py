"""A process that is killed again and again writes the same file in the end."""

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

MODEL = pathlib.Path(__file__).parent.parent / "golden" / "tiny_llama"
KILLS = int(os.environ.get("JAXDECODE_KILLS", "5"))


def requests(count):
    rng = random.Random(0)
    for index in range(count):
        prompt = [rng.randrange(90) for _ in range(rng.randint(1, 20))]
        line = {"id": index, "prompt": prompt, "max_tokens": rng.randint(1, 24)}
        yield json.dumps({**line, "tokens": True, "ignore_eos": True}) + "\n"


def command(folder, target):
    files = [str(folder / "in.jsonl"), str(target)]
    sizes = ["--slots", "3", "--length", "48", "--chunk", "2", "--model", str(MODEL)]
    return [sys.executable, "-m", "jaxdecode", "batch", *files, *sizes]


def size_of(path):
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(requests(300)))
    whole = tmp_path / "whole.jsonl"
    subprocess.run(command(tmp_path, whole), check=True)
    total, target = size_of(whole), tmp_path / "out.jsonl"
    rng, killed = random.Random(KILLS), 0
    for index in range(KILLS):
        before = size_of(target)
        goal = before + rng.randint(1, max(1, 2 * (total - before) // (KILLS - index)))
        process = subprocess.Popen(command(tmp_path, target))
        while process.poll() is None and size_of(target) < goal:
            time.sleep(0.001)
        process.kill()
        killed += process.wait() == -9
    subprocess.run(command(tmp_path, target), check=True)
    assert target.read_bytes() == whole.read_bytes()
    assert killed >= KILLS // 2
