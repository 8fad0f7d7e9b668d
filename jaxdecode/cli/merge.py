"""`jaxdecode batch merge`: the outputs of all shards to one file."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import DisallowNone, Positional, arg, subcommand


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Put the outputs of all shards together (also: jaxdecode batch merge)."""

    target: Positional[str]
    """The file to write, in place when it is complete; also .gz, .zst, or -."""

    parts: Positional[tuple[str, ...]]
    """The outputs of shards 0/N, 1/N, ..., in this order."""

    source: Annotated[
        DisallowNone[str | None],
        arg(metavar="FILE", help_behavior_hint="(default: none)"),
    ] = None
    """The requests: check that every one of them is answered."""

    allow_changes: bool = False
    """Put together answers that were made with different settings."""


Command = Annotated[Merge, subcommand("batch-merge")]


def run(args: Merge) -> int:
    """Merge the parts."""
    from jaxdecode.engine.batch import merge

    merge(
        args.target,
        args.parts,
        source=args.source,
        allow_changes=args.allow_changes,
    )
    return 0
