"""`jaxdecode batch`: a file of requests to a file of answers."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import DisallowNone, OmitArgPrefixes, Positional, arg, subcommand

from jaxdecode.cli import options, output, runtime

if TYPE_CHECKING:
    from jaxdecode.engine import Engine
    from jaxdecode.engine.batch import Summary
    from jaxdecode.text import LanguageModel

NO_ENDING = "(default: none)"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Answer every line of a JSONL file.

    Lines are {"id": ..., "prompt" or "messages": ..., "max_tokens": ..., "temperature":
    ..., "seed": ..., "stop": ..., "n": ...}, or envelopes of the OpenAI batch format.
    What a line does not say is taken from the options here. Stopped at any moment, the
    same command goes on where it was. `jaxdecode batch merge` puts shards together."""

    source: Positional[str]
    """The requests; also .gz, .zst, or - for standard input."""

    target: Positional[str]
    """Where the answers go; also .gz, .zst, or - for standard output."""

    model: OmitArgPrefixes[options.ModelOptions] = field(
        default_factory=options.ModelOptions
    )
    sampling: OmitArgPrefixes[options.JointOptions] = field(
        default_factory=options.JointOptions
    )

    max_new_tokens: int = 128
    """Write at most this many tokens where a line has no max_tokens."""

    ignore_eos: bool = False
    """Continue after the model ends the text."""

    seed: int = 0
    """With the id, names the seed of a line that has none."""

    slots: int = 16
    """Texts that are written side by side."""

    length: Annotated[DisallowNone[int | None], arg(help_behavior_hint="(1024)")] = None
    """Most tokens of a prompt and its text together."""

    chunk: int = 8
    """Tokens of each text between two looks at which have ended."""

    prefill: int = 2048
    """Prompt tokens read between two such looks."""

    shard: str = "0/1"
    """I/N: answer lines I, I + N, I + 2N, ... only, with I from 0 to N - 1."""

    restart: bool = False
    """Throw away the answers that are there."""

    allow_changes: bool = False
    """Go on although the answers that are there were made with other settings."""

    stats: Annotated[
        DisallowNone[str | None], arg(metavar="FILE", help_behavior_hint=NO_ENDING)
    ] = None
    """Write what was done, and how fast, into this JSON file."""


Command = Annotated[Batch, subcommand("batch")]


def run(args: Batch) -> int:
    """Answer the file."""
    shard = read_shard(args.shard)
    check_files(args.source, args.target)
    runtime.start_jax()
    _check_values(args)
    lm = runtime.load_model(args.model)
    from jaxdecode.engine import Engine
    from jaxdecode.engine.batch import Defaults, run_batch

    engine = Engine(
        lm,
        slots=args.slots,
        length=args.length,
        chunk=args.chunk,
        prefill=args.prefill,
    )
    numbers = asdict(
        args.sampling
    )  # some of kinds that tell a default from a typed one
    defaults = Defaults(
        sampling={n: (int if n == "top_k" else float)(x) for n, x in numbers.items()},
        max_tokens=args.max_new_tokens,
        seed=args.seed,
        ignore_eos=args.ignore_eos,
    )
    with _shown(args.source, shard[1]) as progress:
        summary = run_batch(
            engine,
            args.source,
            args.target,
            defaults=defaults,
            shard=shard,
            restart=args.restart,
            allow_changes=args.allow_changes,
            progress=progress,
        )
    _report(args, lm, summary)
    return 0


def read_shard(given: str) -> tuple[int, int]:
    """Return (i, n) for "i/n".

    Raises:
      ValueError: for anything else, or an i that is not in [0, n - 1].
    """
    index, _, count = given.partition("/")
    if index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return int(index), int(count)
    raise ValueError(f"--shard must be I/N with I from 0 to N - 1, got {given!r}.")


def check_files(source: str, target: str) -> None:
    """Refuse an output that is the input, or that cannot be.

    Raises:
      ValueError: if both are one file.
      OSError: if there is no input, or no folder for the output.
    """
    if source != "-" and not os.path.exists(source):
        raise FileNotFoundError(2, "there is no such file", source)
    folder = os.path.dirname(target)
    if target != "-" and folder and not os.path.isdir(folder):
        raise FileNotFoundError(2, "there is no such folder", folder)
    both = source != "-" and target != "-" and os.path.exists(target)
    if both and os.path.samefile(source, target):
        raise ValueError(f"the output must be another file than the input, {source}.")


def _check_values(args: Batch) -> None:
    from jaxdecode.core import check
    from jaxdecode.transforms import joint

    joint(**asdict(args.sampling))
    check.seed("--seed", args.seed)
    for name in ("max_new_tokens", "slots", "chunk", "prefill"):
        if getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be >= 1, got {getattr(args, name)}.")


@contextlib.contextmanager
def _shown(source: str, shards: int) -> "Iterator[Callable[[Summary, Engine], None]]":
    """Show a bar on standard error while the body runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda summary, engine: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        BarColumn(),
        TextColumn("{task.completed} of {task.total} requests"),
        TextColumn("{task.fields[speed]:.0f} tokens/s"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=_count(source, shards), speed=0.0)

        def show(summary: "Summary", engine: "Engine") -> None:
            speed = engine.statistics.generated_tokens / summary.working_seconds
            done = summary.kept + summary.answered
            bar.update(task, completed=done, speed=speed)

        yield show


def _count(source: str, shards: int) -> int | None:
    """Return about how many lines a shard has; None where that is dear to know."""
    if not os.path.isfile(source) or source.endswith((".gz", ".zst")):
        return None
    with open(source, "rb") as file:
        parts = iter(lambda: file.read(1 << 20), b"")
        return -(-sum(part.count(b"\n") for part in parts) // shards)


def _report(args: Batch, lm: "LanguageModel", summary: "Summary") -> None:
    found = summary.as_dict()
    if args.stats is not None:
        found |= _limits(lm, summary)
        with open(args.stats, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
            file.write("\n")
    if sys.stderr.isatty():
        output.note(_sentence(found))


def _limits(lm: "LanguageModel", summary: "Summary") -> dict[str, Any]:
    """Return how close the run came to reading the weights once for every step."""
    import resource

    from jaxdecode import measure

    speed = measure.bandwidth()
    least = summary.engine["steps"] * measure.step_bytes(lm.model, 1, 1) / speed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "fraction_of_limit": float(f"{least / summary.working_seconds:.4g}"),
        "bytes_per_second": round(speed),
        "peak_memory_bytes": peak * (1 if sys.platform == "darwin" else 1024),
    }


def _sentence(found: dict[str, Any]) -> str:
    return (
        f"{found['answered']} requests ({found['failed']} failed, {found['kept']} were "
        f"there) in {found['seconds']:.1f} s, {found['compile_seconds']:.1f} of these "
        f"compiling; {found['generated_tokens_per_second']:.0f} tokens/s written, "
        f"{found['prompt_tokens_per_second']:.0f} read; slots "
        f"{found['slot_occupancy']:.0%} full; {found['recompiled']} recompilations"
    )
