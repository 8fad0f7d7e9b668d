"""Draws what a benchmark found: a run (`--plot FILE`), or a result that is kept.

    python plotting.py results/decode-cpu.json --output decode.svg

`PLOTS` says for each benchmark what is on which axis. A row that lacks a number, such as
that of a peer that is missing, is left out.
"""

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxdecode.measure.plot import check_plot, figure_of, save_figure

Row = dict[str, Any]
HERE = pathlib.Path(__file__).parent
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "os^Dv<>P*X"  # with the dashes: not told apart by colour alone
DASHES = ("-", "--", "-.", ":")
DTYPES = ("float32", "bfloat16", "int8")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")


@dataclasses.dataclass(frozen=True)
class Lines:
    """A line for each series over a number, in a panel for each value of a column.

    Attributes:
      x: the column of the number.
      y: the column of what is drawn.
      series: columns whose values name a line.
      panel: the column of the panels.
    """

    x: str
    y: str
    series: tuple[str, ...]
    panel: str | None = None

    def draw(self, axes: Any, rows: list[Row], names: list[str]) -> None:
        """Draw the rows of one panel; a name looks the same in all of them."""
        for place, name in enumerate(names):
            mine = [row for row in rows if _name(row, self.series) == name]
            if not mine:
                continue
            points = sorted((row[self.x], row[self.y]) for row in mine)
            style = MARKERS[place % len(MARKERS)] + DASHES[place % len(DASHES)]
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(*zip(*points, strict=True), style, color=colour, label=name)
        ticks = sorted({row[self.x] for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        logarithmic(axes)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)


@dataclasses.dataclass(frozen=True)
class Bars:
    """Groups of bars: one for each row and column, or for each value of a series.

    Attributes:
      x: the column that names a group.
      y: columns of what is drawn; several are bars side by side.
      series: columns whose values name the bars of a group, if `y` is one column.
      panel: the column of the panels.
      log: whether the axis is logarithmic.
    """

    x: str
    y: tuple[str, ...]
    series: tuple[str, ...] = ()
    panel: str | None = None
    log: bool = False

    def name(self, row: Row, column: str) -> str:
        """Return the name of the bar for one number."""
        return _name(row, self.series) if self.series else column

    def draw(self, axes: Any, rows: list[Row], names: list[str]) -> None:
        """Draw the rows of one panel; a name looks the same in all of them."""
        groups = list(dict.fromkeys(str(row[self.x]) for row in rows))
        width = 0.8 / len(names)
        for place, name in enumerate(names):
            found = {
                str(row[self.x]): row[column]
                for row in rows
                for column in self.y
                if row.get(column) is not None and self.name(row, column) == name
            }
            offset = (place - (len(names) - 1) / 2) * width
            axes.bar(
                [groups.index(group) + offset for group in found],
                list(found.values()),
                width,
                label=name,
                color=COLOURS[place % len(COLOURS)],
                hatch=HATCHES[place % len(HATCHES)],
                edgecolor="white",
            )
        turned = {"rotation": 30, "ha": "right"} if len(groups) > 3 else {}
        axes.set_xticks(range(len(groups)), groups, **turned)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y[0] if len(self.y) == 1 else "")
        if self.log:
            logarithmic(axes)


def logarithmic(axes: Any) -> None:
    """Make the upright axis logarithmic, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


CYCLES = tuple(f"{part}_mcycles" for part in ("weights", "attention", "other", "draw"))
TIMES = ("trace, s", "lower, s", "compile, s", "first start, s", "later start, s")
STARTS = ("very first run, s", "new bucket, s", "warm, s", "imports, s", "model, s")
MASKS = ("batch 1, us", "batch 8, us", "batch 32, us", "llguidance, us")
# By the beginning of a result's name; the first that fits.
PLOTS: dict[str, Lines | Bars] = {
    "accelerators": Bars("batch", (*CYCLES, "kernels")),
    "beam": Bars("who", ("tokens/s",), ("beams",)),
    "compile_time": Bars("dtype", TIMES),
    "constrained": Bars("pattern", MASKS),
    "decode-context": Lines("context", "tokens/s", ("who", "dtype"), panel="batch"),
    "decode-128": Bars("dtype", ("tokens/s",), ("who",)),
    "decode": Lines("batch", "tokens/s", ("who",), panel="dtype"),
    "engine": Bars("who", ("tokens_per_second",)),
    "history": Bars("link", ("link_ms",)),
    "many": Lines("requests", "requests_per_second", ()),
    "prefill": Lines("prompt tokens", "prompt tokens/s", ("who",), panel="dtype"),
    "products": Lines("rows", "GFLOP/s", (), panel="dtype"),
    "quality": Bars("text", ("mean KL, nats",), ("precision",)),
    "sampler": Bars("mode", ("ms",), ("who",), panel="rows", log=True),
    "sampling_share": Lines("batch", "ms", ("mode",)),
    "starting": Bars("dtype", STARTS),
    "scaling": Lines("grown to", "ms per step", (), panel="what grows"),
}


def plot_option(parser: argparse.ArgumentParser) -> None:
    """Add `--plot` to the options of a benchmark; a bad file is refused at once."""
    parser.add_argument(
        "--plot", type=plot_file, metavar="FILE", help="draw it: .svg, .png, .pdf, ..."
    )


def plot_file(name: str) -> pathlib.Path:
    """Return the path of a plot, which can be written.

    Raises:
      argparse.ArgumentTypeError: if it cannot.
    """
    try:
        check_plot(name)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return pathlib.Path(name)


def draw(document: dict[str, Any], path: pathlib.Path) -> pathlib.Path:
    """Draw a result, as `measure.report` makes it.

    Raises:
      ValueError: if no plot of this benchmark is known, or no row has a number.
    """
    name = document["benchmark"]
    plot = next((plot for key, plot in PLOTS.items() if name.startswith(key)), None)
    if plot is None:
        raise ValueError(f"draw: no plot is known for {name!r}; add it to PLOTS.")
    rows = [row for row in map(_readable, document["rows"]) if _has(plot, row)]
    if not rows:
        raise ValueError(f"draw: no row of {name!r} has a number.")
    names = list(dict.fromkeys(_names(plot, rows)))
    panels = list(dict.fromkeys(row.get(plot.panel) for row in rows))
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    figure = figure_of((max(7.0, 4.6 * across), 4.4 * down))
    grid = list(figure.subplots(down, across, squeeze=False, sharey="row").flat)
    for axes, panel in zip(grid, panels, strict=False):
        plot.draw(axes, [r for r in rows if r.get(plot.panel) == panel], names)
        axes.set_title(name if panel is None else f"{name}: {plot.panel} {panel}")
        axes.grid(visible=True, axis="y", alpha=0.3)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(fontsize=8)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    return save_figure(figure, path)


def _readable(row: Row) -> Row:
    """Return a row in which what grows has one name, and who is apart from a type."""
    if "what grows" in row:
        return row | {"grown to": row[row["what grows"]]}
    who, _, dtype = row.get("who", "").rpartition(" ")
    if dtype in DTYPES and "dtype" not in row:
        return row | {"who": who, "dtype": dtype}
    return row


def _has(plot: Lines | Bars, row: Row) -> bool:
    columns = (plot.y,) if isinstance(plot, Lines) else plot.y
    return any(isinstance(row.get(column), (int, float)) for column in columns)


def _names(plot: Lines | Bars, rows: list[Row]) -> Iterator[str]:
    """Yield the names of lines or bars, each at least once, in their order."""
    for row in rows:
        if isinstance(plot, Lines):
            yield _name(row, plot.series)
        else:
            columns = [column for column in plot.y if row.get(column) is not None]
            yield from (plot.name(row, column) for column in columns)


def _name(row: Row, columns: tuple[str, ...]) -> str:
    parts = [row[c] if isinstance(row[c], str) else f"{c} {row[c]}" for c in columns]
    return ", ".join(parts)


def main() -> None:
    """Draw results that are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", nargs="+", type=pathlib.Path, help="JSON files")
    parser.add_argument("--output", type=plot_file, help="for one result")
    options = parser.parse_args()
    if options.output and len(options.results) > 1:
        parser.error("--output is for one result")
    folder = HERE / "plots"
    for path in options.results:
        folder.mkdir(exist_ok=True)
        made = options.output or folder / f"{path.stem.removesuffix('-cpu')}.svg"
        print(draw(json.loads(path.read_text()), made))


if __name__ == "__main__":
    main()
