"""`jaxdecode sweep`: what each of many settings makes of the text, in one program."""

import csv
import dataclasses
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import DisallowNone, OmitArgPrefixes, Positional, arg, subcommand

from jaxdecode.cli import interrupt, output, runtime
from jaxdecode.cli.options import ModelOptions, SamplingOptions
from jaxdecode.cli.samplers import build_sampler
from jaxdecode.cli.settings import changed, read_grid

if TYPE_CHECKING:
    from jaxdecode.measure import Outcome, Run

MEASURES = {
    "mean_logprob": "log-prob",
    "entropy": "entropy",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "self_bleu": "self-BLEU",
    "repetition": "repeated",
    "length": "tokens",
    "ended": "ended",
}
SHOWN = tuple(name for name in MEASURES if name not in ("distinct_1", "distinct_3"))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Write texts with every combination of some settings, and compare what comes out:
    how likely, how varied, how repetitive, how long."""

    prompts: Positional[tuple[str, ...]]
    """The texts to continue."""

    grid: Annotated[tuple[str, ...], arg(metavar="NAME=V,V,... ...")] = (
        "temperature=0.25,0.5,0.75,1,1.25,1.5",
    )
    """Values of settings; every combination is one. The first is a plot's x axis."""

    seeds: int = 8
    """Texts of each prompt with each setting; their seeds are 0, 1, 2, ..."""

    model: OmitArgPrefixes[ModelOptions] = field(default_factory=ModelOptions)
    sampling: OmitArgPrefixes[SamplingOptions] = field(
        default_factory=lambda: SamplingOptions(temperature=1.0, top_k=0, top_p=1.0)
    )

    max_new_tokens: int = 64
    """Tokens of a text, at most."""

    rows: int = 32
    """How many texts are written together; more need more memory."""

    csv: Annotated[DisallowNone[str | None], arg(metavar="FILE")] = None
    """Write the table into this file."""

    texts: Annotated[DisallowNone[str | None], arg(metavar="FILE")] = None
    """Write every text into this file (.csv)."""

    plot: Annotated[DisallowNone[str | None], arg(metavar="FILE")] = None
    """Plot the measures and the frontier into this file (.png, .svg, .pdf)."""


Command = Annotated[Sweep, subcommand("sweep")]


def run(args: Sweep) -> int:
    """Run the grid, print the table and write what was asked for."""
    settings = _checked(args)
    runtime.start_jax()
    from jaxdecode import measure

    if args.plot is not None:
        measure.check_plot(args.plot)
    build_sampler(args.sampling)
    for one in settings:
        build_sampler(changed(args.sampling, one))
    model = runtime.load_model(args.model)
    count = len(settings) * len(args.prompts) * args.seeds
    output.note(
        f"{len(settings)} settings x {len(args.prompts)} prompts x {args.seeds} seeds: "
        f"{count} texts, {min(args.rows, count)} at a time"
    )
    with interrupt.exit_at_once():
        outcomes, runs = measure.sweep(
            model.model,
            [model.encode(prompt) for prompt in args.prompts],
            settings,
            range(args.seeds),
            build=lambda **rows: build_sampler(
                changed(args.sampling, rows), model.eos_ids
            ),
            max_new_tokens=args.max_new_tokens,
            eos_ids=model.eos_ids,
            rows=args.rows,
        )
    _print_table(outcomes)
    if args.csv is not None:
        _write(args.csv, [_row(one) for one in outcomes])
    if args.texts is not None:
        _write(args.texts, [_text(args, model, settings, one) for one in runs])
    if args.plot is not None:
        title = (
            f"{args.model.name}, {count} texts of at most {args.max_new_tokens} tokens"
        )
        measure.plot_sweep(outcomes, args.plot, title=title)
    return 0


def _checked(args: Sweep) -> list[dict[str, Any]]:
    """Return the settings, after checks that need no model."""
    if not args.prompts or not all(args.prompts):
        raise ValueError("the prompt must not be empty")
    for name in ("seeds", "max_new_tokens", "rows"):
        if getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be >= 1, got {getattr(args, name)}.")
    for flag, path in (("--csv", args.csv), ("--texts", args.texts)):
        if path is not None:
            output.check_folder(flag, path)
    grid = read_grid("--grid", args.grid)
    return [dict(zip(grid, v, strict=True)) for v in itertools.product(*grid.values())]


def _row(one: "Outcome") -> dict[str, Any]:
    measures = {name: getattr(one, name) for name in MEASURES}
    return {**one.setting, "runs": one.runs, **measures, "frontier": one.frontier}


def _text(args: Sweep, model: Any, settings: list[Any], one: "Run") -> dict[str, Any]:
    return {
        **settings[one.setting],
        "prompt": args.prompts[one.prompt],
        "seed": one.seed,
        "status": one.status.name.lower(),
        "mean_logprob": one.logprob / max(len(one.tokens), 1),
        "text": model.tokenizer.decode(one.tokens, continues=True),
    }


def _write(path: str, rows: list[dict[str, Any]]) -> None:
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _print_table(outcomes: "list[Outcome]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        caption="* no other setting is both likelier and more varied (distinct-2)",
        box=box.SIMPLE_HEAD,
    )
    for name in (*outcomes[0].setting, *(MEASURES[name] for name in SHOWN), ""):
        table.add_column(name, justify="right")
    for one in outcomes:
        values = dataclasses.asdict(one)
        cells = [f"{value:g}" for value in one.setting.values()]
        cells += [_number(name, values[name]) for name in SHOWN]
        table.add_row(*cells, "*" if one.frontier else "")
    Console(width=None if output.is_terminal() else 120).print(table)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name == "length" else f"{value:.3f}"
