"""`jaxdecode sweep` with a tiny model: the table, the files, and what is refused."""

import csv
import io

import pytest

import jaxdecode as jd
from jaxdecode import text
from tests.report.cases import language_model


def test_the_command_prints_a_table_and_writes_what_was_asked(
    model, run, monkeypatch, tmp_path
):
    monkeypatch.setattr(text, "load", lambda name, *, dtype: language_model())
    table, texts, plot = (tmp_path / name for name in ("a.csv", "b.csv", "c.svg"))
    code, out, err = run(
        "sweep", "<a b>", "cd", "--grid", "temperature=0.5,1.5", "top-p=0.7,1",
        "--seeds", "3", "--rows", "5", "--max-new-tokens", "11", "--csv", str(table),
        "--texts", str(texts), "--plot", str(plot),
    )  # fmt: skip
    assert code == 0, err
    assert "self-BLEU" in out
    assert "4 settings x 2 prompts x 3 seeds: 24 texts, 5 at a time" in err
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [(r["temperature"], r["top_p"]) for r in rows[:2]] == [
        ("0.5", "0.7"), ("0.5", "1.0")
    ]  # fmt: skip
    written = list(csv.DictReader(io.StringIO(texts.read_bytes().decode(), newline="")))
    assert len(written) == 24
    first = language_model().generate(
        written[0]["prompt"],
        key=int(written[0]["seed"]),
        sampler=jd.joint(temperature=0.5, top_p=0.7),
        max_new_tokens=11,
    )
    assert written[0]["text"] == first
    assert plot.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--grid", "heat=1"), "--grid must be NAME=V,V,... with names among"),
        (("--grid", "top_k=1", "top-k=2"), "each once, got 'top-k=2'"),
        (("--grid", "top_k=1,x"), "--grid: top_k must be a number, got 'x'"),
        (("--grid", "top_p=1,2"), "TopP: `p` must be in [0, 1], got 2.0."),
        (("--seeds", "0"), "--seeds must be >= 1, got 0."),
        (("--csv", "/nowhere/at.csv"), "--csv: /nowhere: no such folder."),
        (("--plot", "a.docx"), "plot: `path` must end in one of"),
    ],
)
def test_bad_options_are_refused_before_a_model_is_loaded(model, run, options, message):
    code, _, err = run("sweep", "a", *options)
    assert (code, model.loaded) == (2, [])
    assert message in err
