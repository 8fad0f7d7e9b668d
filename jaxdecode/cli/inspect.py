"""`jaxdecode inspect`: continue a text, and see what decided each token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import DisallowNone, Positional, arg, subcommand

from jaxdecode.cli import interrupt, output, runtime
from jaxdecode.cli.options import DecodingOptions, SamplingOptions
from jaxdecode.cli.samplers import build_sampler
from jaxdecode.cli.settings import changed, read_settings

if TYPE_CHECKING:
    from jaxdecode.text.inspection import Inspection

# From sure to surprised: backgrounds of the 256 colours, and what is readable on them.
_COLOURS = (
    (0.9, ""),
    (0.5, "black on color(230)"),
    (0.2, "black on color(222)"),
    (0.05, "black on color(215)"),
    (0.01, "black on color(208)"),
    (0.0, "white on color(130)"),
)


@dataclass(frozen=True, kw_only=True)
class Inspect(DecodingOptions):
    """Continue a text, coloured by probability, and write a page that shows for every
    token what each setting removed, and what other settings would do."""

    prompt: Positional[str]
    """The text to continue; - reads it from standard input."""

    output: Annotated[
        DisallowNone[str | None],
        arg(aliases=["-o"], metavar="FILE", help_behavior_hint="(default: no page)"),
    ] = None
    """Write the page into this file (.html); it needs no network."""

    what_if: Annotated[
        tuple[str, ...],
        arg(metavar="NAME=VALUE[,...] ...", help_behavior_hint="(default: none)"),
    ] = ()
    """Also write the text with other settings and the same noise, such as
    temperature=1.5,top_k=0; each is one more text on the page."""

    beams: int = 0
    """Also show a search with this many beams; 0 is off."""


Command = Annotated[Inspect, subcommand("inspect")]


def run(args: Inspect) -> int:
    """Continue the prompt, print the strip and write the page."""
    if args.beams < 0:
        raise ValueError(f"--beams must be >= 0, got {args.beams}.")
    if args.output is not None:
        output.check_folder("--output", args.output)
    others = {
        text: changed(args.sampling, read_settings("--what-if", text))
        for text in args.what_if
    }
    for other in others.values():
        build_sampler(other)
    prompt = output.read_text("prompt", args.prompt)
    session = runtime.open_session(args)
    with interrupt.exit_at_once():
        found = session.model.inspect(
            prompt,
            beams=args.beams,
            what_if=_samplers(others, session),
            **session.settings,
        )
        _print_strip(found)
        if args.output is not None:
            output.note(f"page: {found.save(args.output)}")
        session.report()
    return 0


def _samplers(
    others: dict[str, SamplingOptions], session: runtime.Session
) -> dict[str, Any]:
    ends = session.model.eos_ids
    return {text: build_sampler(other, ends) for text, other in others.items()}


def _print_strip(found: "Inspection") -> None:
    """Print the text, each token on the colour of its probability, and a line of facts.

    Where standard output takes no colours it is the text alone.
    """
    import numpy as np
    from rich.console import Console
    from rich.text import Text

    steps, strip = found.steps, Text()
    for piece, logprob in zip(found.pieces(), steps.logprob[:, 0], strict=True):
        strip.append(piece, style=_colour(float(np.exp(logprob))))
    legend = Text("probability in %:")
    for low, style in _COLOURS:
        legend.append(f" {low:.0%}+ ".replace("%", ""), style=style or None)
    console = Console(highlight=False, soft_wrap=True)
    console.print(strip)
    if output.is_terminal():
        console.print(legend)
    removed = steps.removed_mass.sum(axis=1).mean()
    output.note(
        f"{len(found.tokens)} tokens, ended by {found.status.name.lower()}; a step: "
        f"log-prob {steps.logprob[:, 0].mean():.2f}, rank "
        f"{np.median(steps.rank[:, 0]):.0f} (median), entropy "
        f"{steps.entropy[:, 0].mean():.2f} -> {steps.entropy[:, -1].mean():.2f} nats, "
        f"{removed:.1%} removed"
    )


def _colour(probability: float) -> str:
    return next(style for low, style in _COLOURS if probability >= low)
