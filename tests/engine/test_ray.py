"""Rows of a dataset become what they become alone, and losing an actor changes none."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.ray import Generate
from tests.engine.engine_cases import language_model
from tests.engine.ray_program import OPTIONS

ROOT = pathlib.Path(__file__).parents[2]
PROMPTS = ["abc", "hello world", "z", "some of it", "and more of that"] * 5


def column(values):
    return np.asarray(values, object)


def test_a_batch_gets_a_text_for_each_row():
    stage = Generate(language_model(), **OPTIONS)
    batch = {
        "prompt": column(PROMPTS[:5]),
        "seed": np.arange(5),
        "temperature": np.linspace(0.2, 1.4, 5),
        "max_new_tokens": np.asarray([3, 4, 5, 6, 7]),
    }
    out = stage(batch)
    assert out["prompt"] is batch["prompt"]
    for row in range(5):
        wanted = language_model().generate(
            [PROMPTS[row]],
            key=[row],
            sampler=jd.joint(temperature=float(batch["temperature"][row])),
            max_new_tokens=row + 3,
        )
        assert [out["text"][row]] == wanted
    assert set(out["finish_reason"]) <= {"stop", "length"}
    assert out["prompt_tokens"].tolist() == [len(p) for p in PROMPTS[:5]]


def test_a_text_does_not_depend_on_its_batch():
    stage = Generate(language_model(), **OPTIONS)
    whole = stage({"prompt": column(PROMPTS)})["text"].tolist()
    parts = [
        stage({"prompt": column(PROMPTS[i::3])})["text"].tolist() for i in range(3)
    ]
    for i, part in enumerate(parts):
        assert part == whole[i::3]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_dataset_survives_the_loss_of_an_actor(kind, tmp_path):
    source, target = tmp_path / f"in.{kind}", tmp_path / "out"
    rows = [{"number": i, "prompt": prompt} for i, prompt in enumerate(PROMPTS)]
    if kind == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), source)
    marker = tmp_path / "died"
    files = [str(path) for path in (source, target, marker)]
    subprocess.run(
        [sys.executable, "-m", "tests.engine.ray_program", *files],
        check=True,
        timeout=300,
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), os.environ.get("PYTHONPATH", "")]
            ),
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    )
    assert marker.exists()
    found = []
    for path in target.iterdir():
        if kind == "jsonl":
            found += [json.loads(line) for line in path.read_text().splitlines()]
        else:
            found += parquet.read_table(path).to_pylist()
    found.sort(key=lambda row: row["number"])
    assert [row["number"] for row in found] == list(range(len(PROMPTS)))
    stage = Generate(language_model(), **OPTIONS)
    assert [row["text"] for row in found] == (
        stage({"prompt": column(PROMPTS)})["text"].tolist()
    )
