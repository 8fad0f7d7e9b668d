"""A plot of measured decoding speeds and their limit; needs matplotlib."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdecode.measure.decoding import Decoding


def plot(found: Sequence[Decoding], path: str | os.PathLike, *, title: str) -> Path:
    """Draw tokens per second after the first token over batch sizes.

    Args:
      found: measurements of one model, one for each batch size.
      path: the image file; its suffix decides the format.
      title: the title of the plot.

    Returns:
      The path.

    Raises:
      ValueError: if matplotlib is not installed, or cannot write this format.
      OSError: if the file cannot be written.
    """
    figure = figure_of()
    axes = figure.subplots()
    batches = [one.batch for one in found]
    speeds = [1e3 * one.batch / one.step_ms for one in found]
    limits = [s / one.fraction_of_limit for s, one in zip(speeds, found, strict=True)]
    axes.plot(batches, speeds, "o-", label="measured")
    axes.plot(batches, limits, "--", color="gray", label="memory bandwidth allows")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xlabel("rows decoded together")
    axes.set_ylabel("tokens per second")
    axes.set_title(title)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    return save_figure(figure, path)


def check_plot(path: str | os.PathLike) -> None:
    """Refuse, before anything is measured, a file that could not be written.

    Raises:
      ValueError: if matplotlib is not installed, or cannot write this format.
      FileNotFoundError: if the folder does not exist.
    """
    kinds = figure_of().canvas.get_supported_filetypes()
    kind = Path(path).suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise ValueError(
            f"plot: `path` must end in one of {', '.join(sorted(kinds))}, got "
            f"{os.fspath(path)!r}."
        )
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder.")


def figure_of(size: tuple[float, float] = (6.4, 4.4)) -> Any:
    """Return an empty figure of some inches.

    Raises:
      ValueError: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            "plot: matplotlib is needed for a plot; "
            "pip install 'jaxdecode[plot]' brings it."
        ) from error
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: str | os.PathLike) -> Path:
    """Write a figure to a file and return its path.

    An SVG keeps its text as text, which is small, and says the same whenever it is made.

    Raises:
      OSError: if the file cannot be written.
    """
    import matplotlib

    # Only an SVG has these fields; a PNG would keep an empty date.
    metadata = {"Date": None} if Path(path).suffix.lower() == ".svg" else None
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxdecode"}):
        figure.savefig(path, metadata=metadata)
    return Path(path)
