"""How everything here is measured: interleaved rounds, ratios per round, one JSON line.

A shared machine drifts, so variants run in turn (A B A B ...) and are compared within a
round; times are medians, with the spread beside them. Compilation is timed apart.
"""

import json
import pathlib
from typing import Any

import jax
from plotting import draw
from plotting import plot_option as plot_option

from jaxdecode.measure import Timings as Timings
from jaxdecode.measure import bandwidth as bandwidth
from jaxdecode.measure import interleave as interleave
from jaxdecode.measure import machine

RESULTS = pathlib.Path(__file__).parent / "results"


def report(
    name: str,
    rows: list[dict[str, Any]],
    *,
    save: bool = True,
    plot: pathlib.Path | None = None,
    **extra: Any,
):
    """Print a table, then one JSON document as the last line; keep and draw it."""
    print(table(rows))
    document = {"benchmark": name, "machine": machine(), **extra, "rows": rows}
    line = json.dumps(document)
    if save:
        RESULTS.mkdir(exist_ok=True)
        device = "cpu" if jax.default_backend() == "cpu" else _slug(jax.devices()[0])
        path = RESULTS / f"{name}-{device}.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
    if plot is not None:
        draw(document, plot)
    print(line)


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows of equal keys as a Markdown table."""
    if not rows:
        return "(nothing was measured)"
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [
        "| " + " | ".join(_show(row.get(n)) for n in names) + " |" for row in rows
    ]
    return "\n".join(lines)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value)


def _slug(device: jax.Device) -> str:
    return device.device_kind.lower().replace(" ", "-")
