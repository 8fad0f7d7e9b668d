"""`jaxdecode generate`: continue a text."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, subcommand

from jaxdecode.cli import interrupt, output, runtime
from jaxdecode.cli.beams import show_beams
from jaxdecode.cli.options import DecodingOptions


@dataclass(frozen=True, kw_only=True)
class Generate(DecodingOptions):
    """Continue a text, printed while the model writes it."""

    prompt: Positional[str]
    """The text to continue; - reads it from standard input."""

    num_samples: int = 1
    """Write this many texts; several are printed when all are complete."""

    beams: int = 0
    """Search with this many beams, without drawing, and print a table; 0 is off."""

    length_penalty: float = 1.0
    """With --beams: scores are divided by length to this power; above 0 favours long."""

    echo: bool = False
    """Print the prompt before the text."""


Command = Annotated[Generate, subcommand("generate")]


def run(args: Generate) -> int:
    """Continue the prompt, once or several times."""
    if args.num_samples < 1:
        raise ValueError(f"--num-samples must be >= 1, got {args.num_samples}.")
    if args.beams < 0:
        raise ValueError(f"--beams must be >= 0, got {args.beams}.")
    if args.beams and args.length.stop:
        raise ValueError("--stop must not be given with --beams, which has no stops.")
    prompt = output.read_text("prompt", args.prompt)
    session = runtime.open_session(args, draws=not args.beams)
    if args.beams:
        show_beams(session, prompt, args.beams, args.length_penalty)
        return 0
    with interrupt.exit_at_once():
        if args.num_samples == 1:
            stream = session.model.stream(prompt, **session.settings)
            output.show([prompt] if args.echo else [], stream)
        else:
            _show_samples(args, prompt, session)
        session.report()
    return 0


def _show_samples(args: Generate, prompt: str, session: runtime.Session) -> None:
    count = args.num_samples
    texts = session.model.generate(prompt, num_samples=count, **session.settings)
    for number, text in enumerate(texts, 1):
        output.write(f"--- sample {number} of {count}\n")
        output.show([prompt] if args.echo else [], [text])
