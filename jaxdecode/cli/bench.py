"""`jaxdecode bench`: how fast a model decodes on this machine, and its limit."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import DisallowNone, OmitArgPrefixes, arg, subcommand

from jaxdecode.cli import interrupt, options, output, runtime

if TYPE_CHECKING:
    from jaxdecode.measure import Decoding


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure how fast a model reads prompts and writes tokens on this machine."""

    model: OmitArgPrefixes[options.ModelOptions] = field(
        default_factory=options.ModelOptions
    )

    batches: Annotated[tuple[int, ...], arg(metavar="ROWS ...")] = (1, 8)
    """Batch sizes (rows decoded together); each one is measured."""

    context: int = 16
    """Tokens of each prompt; the tokens are random."""

    new_tokens: int = 64
    """New tokens of each row, at least 2; no row ends early."""

    rounds: int = 5
    """How many times everything is timed; the figures are medians."""

    json: bool = False
    """Print one JSON document instead of a table."""

    plot: Annotated[DisallowNone[str | None], arg(metavar="FILE")] = None
    """Plot speed over batch size into this file (.png, .svg, .pdf)."""


Command = Annotated[Bench, subcommand("bench")]


def run(args: Bench) -> int:
    """Measure every batch size and print the results."""
    if not args.batches or min(args.batches) < 1:
        raise ValueError(f"--batches must be >= 1, got {args.batches}.")
    for name, low in (("context", 1), ("new_tokens", 2), ("rounds", 1)):
        if getattr(args, name) < low:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be >= {low}, got {getattr(args, name)}.")
    runtime.start_jax()
    from jaxdecode import measure

    if args.plot is not None:
        measure.check_plot(args.plot)
    with interrupt.exit_at_once():
        model = runtime.load_model(args.model).model
        speed = measure.bandwidth()
        found = []
        for batch in sorted(set(args.batches)):
            output.note(f"measuring batch {batch} ...")
            found.append(
                measure.measure_decoding(
                    model,
                    batch=batch,
                    context=args.context,
                    new_tokens=args.new_tokens,
                    rounds=args.rounds,
                    bandwidth=speed,
                )
            )
    about = {
        "model": args.model.name,
        "dtype": measure.stored_as(model),
        **measure.machine(),
    }
    if args.plot is not None:
        title = f"{about['model']}, {about['dtype']}, {about['device']}"
        measure.plot(found, args.plot, title=title)
    if args.json:
        rows = [dataclasses.asdict(one) for one in found]
        output.write(json.dumps({**about, "bandwidth": speed, "rows": rows}) + "\n")
    else:
        _print_table(found, about, speed)
    return 0


def _print_table(found: "list[Decoding]", about: dict[str, Any], speed: float) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    first = found[0]
    table = Table(
        title=f"{about['model']}, {about['dtype']}: {first.context} prompt tokens and "
        f"{first.new_tokens} new ones a row",
        caption=f"{about['processor']}, {about['cores']} cores, {about['device']}, jax "
        f"{about['jax']}; memory {speed / 1e9:.1f} GB/s. The limit: weights and cache "
        "read once a step.",
        box=box.SIMPLE_HEAD,
    )
    for name in (
        "batch",
        "tokens/s",
        "ms per step",
        "of the limit",
        "first token, ms",
        "prompt tokens/s",
        "first call, s",
    ):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(
            str(one.batch),
            f"{one.tokens_per_second:.1f}",
            f"{one.step_ms:.2f}",
            f"{one.fraction_of_limit:.0%}",
            f"{one.first_token_ms:.1f}",
            f"{one.prompt_tokens_per_second:.0f}",
            f"{one.first_call_s:.1f}",
        )
    Console(width=None if output.is_terminal() else 120).print(table)
