"""Plots of a sweep: one quality over another, a line for each value of a setting."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxdecode.measure.plot import figure_of, save_figure
from jaxdecode.measure.sweeping import Outcome

LABELS = {
    "mean_logprob": "mean log-prob (higher: likelier)",
    "distinct_1": "distinct tokens",
    "distinct_2": "distinct pairs (higher: more varied)",
    "distinct_3": "distinct triples",
    "self_bleu": "self-BLEU (lower: more varied)",
    "repetition": "4-grams repeated within a text",
    "entropy": "entropy of the model (nats)",
    "length": "tokens",
}
PANELS = ("repetition", "distinct_2", "mean_logprob", "self_bleu", "length")
STYLES = ("o-", "s--", "^-.", "D:", "v-", "P--")  # not told apart by colour alone


def plot_sweep(
    outcomes: Sequence[Outcome],
    path: str | os.PathLike,
    *,
    title: str = "",
    panels: Sequence[str] = PANELS,
    frontier: bool = True,
) -> Path:
    """Draw the measures over the first setting, and likelihood against variety.

    The first name of the settings is the x axis, each combination of the others a line.

    Args:
      outcomes: what `sweep` returned.
      path: the image file; its suffix decides the format.
      title: the title of the plot.
      panels: names of measures, a panel each.
      frontier: whether a last panel shows the frontier of likelihood and variety.

    Returns:
      The path.

    Raises:
      ValueError: if matplotlib is not installed, or cannot write this format.
      OSError: if the file cannot be written.
    """
    panels = [p for p in panels if all(getattr(o, p) is not None for o in outcomes)]
    count = len(panels) + frontier
    across = min(count, 3)
    down = -(-count // across)
    figure = figure_of((3.9 * across + 0.4, 3.1 * down + 0.5))
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, name in zip(axes, panels, strict=False):
        _lines(axis, outcomes, name)
    if frontier:
        _frontier(axes[len(panels)], outcomes)
    for axis in axes[count:]:
        axis.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(labels), 4)
        )
    figure.suptitle(title)
    return save_figure(figure, path)


def _lines(axis, outcomes: Sequence[Outcome], name: str) -> None:
    for style, (label, line) in zip(_cycle(), _by_rest(outcomes).items(), strict=False):
        x = [next(iter(one.setting.values())) for one in line]
        axis.plot(x, [getattr(o, name) for o in line], style, label=label, markersize=4)
    axis.set_xlabel(next(iter(outcomes[0].setting), ""))
    axis.set_ylabel(LABELS[name])
    axis.grid(visible=True, alpha=0.3)


def _frontier(axis, outcomes: Sequence[Outcome]) -> None:
    for style, line in zip(_cycle(), _by_rest(outcomes).values(), strict=False):
        x, y = [o.distinct_2 for o in line], [o.mean_logprob for o in line]
        axis.plot(x, y, style[0], markersize=4)
    best = sorted((o.distinct_2, o.mean_logprob) for o in outcomes if o.frontier)
    axis.plot(*zip(*best, strict=True), "-", color="gray", lw=1, zorder=0)
    for one in outcomes:
        if one.frontier:
            text = ", ".join(f"{value:g}" for value in one.setting.values())
            place = (one.distinct_2, one.mean_logprob)
            axis.annotate(
                text, place, fontsize=6, xytext=(3, 3), textcoords="offset points"
            )
    axis.set_xlabel(LABELS["distinct_2"])
    axis.set_ylabel(LABELS["mean_logprob"])
    axis.grid(visible=True, alpha=0.3)


def _by_rest(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Group outcomes by all their values but the first."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        rest = list(one.setting.items())[1:]
        label = ", ".join(f"{name} {value:g}" for name, value in rest)
        groups.setdefault(label, []).append(one)
    return groups


def _cycle():
    while True:
        yield from STYLES
