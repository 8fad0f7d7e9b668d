"""`jaxdecode inspect` with a tiny model: the strip, the page, and what is refused."""

import pytest

from jaxdecode import text
from tests.report.cases import language_model

SHORT = ("--max-new-tokens", "11", "--seed", "3", "--ignore-eos", "--top-k", "0")


@pytest.fixture
def tiny(model, monkeypatch):
    """Load the tiny model of the report's tests, whatever is asked for."""
    monkeypatch.setattr(text, "load", lambda name, *, dtype: language_model())


def test_the_strip_is_the_text_of_generate_and_facts_go_to_standard_error(tiny, run):
    code, out, err = run("inspect", "<a b>", *SHORT)
    text = run("generate", "<a b>", *SHORT)[1]
    assert code == 0
    assert out.split() == "".join(c for c in text if c >= " " or c == "\n").split()
    assert err.startswith("11 tokens, ended by length; a step: log-prob -")


def test_a_page_is_written_with_other_settings_and_beams(tiny, run, tmp_path):
    page = tmp_path / "report.html"
    other = ("--what-if", "temperature=3,top-k=5", "--beams", "3")
    code, _, err = run("inspect", "<a b>", "-o", str(page), *other, *SHORT)
    assert (code, f"page: {page}\n" in err) == (0, True)
    written = page.read_text()
    assert '"label":"temperature=3,top-k=5"' in written
    assert '"hypotheses":[{' in written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--what-if", "heat=3"), "--what-if must be NAME=VALUE with a name among"),
        (("--what-if", "top_k=half"), "--what-if: top_k must be a number, got 'half'"),
        (("--what-if", "top_p=2"), "TopP: `p` must be in [0, 1], got 2.0."),
        (("--beams", "-1"), "--beams must be >= 0, got -1."),
        (("-o", "/nowhere/at/all.html"), "--output: /nowhere/at: no such folder."),
    ],
)
def test_bad_options_are_refused_before_a_model_is_loaded(model, run, options, message):
    code, _, err = run("inspect", "a", *options)
    assert (code, model.loaded) == (2, [])
    assert message in err
