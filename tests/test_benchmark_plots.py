"""Every benchmark can be drawn, from a run and from a result that is kept."""

import importlib.util
import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"
RESULTS = sorted((FOLDER / "results").glob("*.json"))
pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")


def plotting():
    spec = importlib.util.spec_from_file_location("plotting", FOLDER / "plotting.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLOTTING = plotting()


def each_result():
    """The first result of each benchmark is drawn soon."""
    seen = set()
    for path in RESULTS:
        name = path.stem.split("-")[0]
        marks = [pytest.mark.slow] if name in seen else []
        seen.add(name)
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", each_result())
def test_every_result_that_is_kept_can_be_drawn(path, tmp_path):
    made = PLOTTING.draw(json.loads(path.read_text()), tmp_path / "a.svg")
    assert 5_000 < made.stat().st_size < 500_000
    assert "<text" in made.read_text()


def test_every_benchmark_has_the_option_and_a_plot():
    for path in FOLDER.glob("*.py"):
        code = path.read_text()
        if "report(" in code and path.stem not in ("measure", "plotting"):
            assert "plot_option(parser)" in code, path.name
            assert "plot=options.plot" in code or "plot=args.plot" in code, path.name
            assert path.stem in PLOTTING.PLOTS


def test_the_points_of_a_line_are_the_numbers_of_its_rows():
    from jaxdecode.measure.plot import figure_of

    rows = [
        {"batch": batch, "who": who, "tokens/s": speed}
        for who, speeds in {"a": (3.0, 9.0), "b": (2.0, 5.0)}.items()
        for batch, speed in zip((8, 1), speeds, strict=True)
    ]
    axes = figure_of().subplots()
    lines = PLOTTING.Lines("batch", "tokens/s", ("who",))
    lines.draw(axes, rows, ["none", "a", "b"])
    found = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert found == {"a": [[1, 9.0], [8, 3.0]], "b": [[1, 5.0], [8, 2.0]]}


def test_the_heights_of_bars_are_the_numbers_of_their_rows():
    from jaxdecode.measure.plot import figure_of

    rows = [{"who": "a", "x": 3.0, "y": None}, {"who": "b", "x": 1.0, "y": 4.0}]
    axes = figure_of().subplots()
    PLOTTING.Bars("who", ("x", "y")).draw(axes, rows, ["x", "y"])
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert heights == [[3.0, 1.0], [4.0]]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["a", "b"]


def test_a_row_without_a_number_is_left_out_and_none_at_all_is_said(tmp_path):
    missing = {"batch": 1, "context": 16, "who": "missing: torch"}
    good = {"batch": 1, "who": "ours int8", "tokens/s": 3.0}
    rows = {"benchmark": "decode", "rows": [good, missing]}
    assert "missing" not in PLOTTING.draw(rows, tmp_path / "a.svg").read_text()
    with pytest.raises(ValueError, match="no row of 'decode'"):
        PLOTTING.draw(rows | {"rows": [missing]}, tmp_path / "a.svg")
    with pytest.raises(ValueError, match="no plot is known for 'what'"):
        PLOTTING.draw(rows | {"benchmark": "what"}, tmp_path / "a.svg")


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path):
    import argparse

    for name in ("a.what", str(tmp_path / "none" / "a.svg")):
        with pytest.raises(argparse.ArgumentTypeError):
            PLOTTING.plot_file(name)
    assert PLOTTING.plot_file(str(tmp_path / "a.svg")) == tmp_path / "a.svg"


def test_the_plots_of_the_page_are_there_and_name_what_they_show():
    page = (FOLDER / "README.md").read_text()
    for path in (FOLDER / "plots").glob("*.svg"):
        assert f"(plots/{path.name})" in page
        assert ">jaxdecode" in path.read_text() or "what grows" in path.read_text()
