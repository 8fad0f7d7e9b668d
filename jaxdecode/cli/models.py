"""`jaxdecode models`: which models are known, and which of them are here."""

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitSubcommandPrefixes, Positional, subcommand

from jaxdecode.cli import interrupt, output

if TYPE_CHECKING:
    from jaxdecode.weights import Item


@dataclass(frozen=True)
class List:
    """Show the known models: size, licence, and where they are on this machine."""


@dataclass(frozen=True)
class Fetch:
    """Download a model into the cache folder, if it is not here already."""

    name: Positional[str]
    """A known name."""


@dataclass(frozen=True)
class Remove:
    """Delete what the cache folder holds of a model."""

    name: Positional[str]
    """A known name."""

    yes: bool = False
    """Do not ask first."""


@dataclass(frozen=True)
class Where:
    """Print where a model is on this machine."""

    name: Positional[str]
    """A known name."""


@dataclass(frozen=True)
class Models:
    """List, fetch and remove the models known by name."""

    action: OmitSubcommandPrefixes[
        Annotated[List, subcommand("list")]
        | Annotated[Fetch, subcommand("fetch")]
        | Annotated[Remove, subcommand("remove")]
        | Annotated[Where, subcommand("path")]
    ] = field(default_factory=List)


Command = Annotated[Models, subcommand("models")]


def run(args: Models) -> int:
    """Do what was asked with the known models."""
    with interrupt.leave_at_once():
        import jaxdecode.weights  # noqa: F401
    action = args.action
    actions = {List: _list, Fetch: _fetch, Remove: _remove, Where: _where}
    return actions[type(action)](action)


def _list(action: List) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from jaxdecode import weights

    table = Table("name", box=box.SIMPLE_HEAD)
    table.add_column("download", justify="right")
    for name in ("licence", "here"):
        table.add_column(name, overflow="fold")
    table.add_column("what it is")
    for item in weights.inventory():
        model = item.model
        table.add_row(
            model.name,
            _megabytes(model.download),
            model.licence,
            _whereabouts(item),
            model.title,
        )
    # A reader of a pipe wants a model per line.
    Console(width=None if output.is_terminal() else 200).print(table)
    return 0


def _whereabouts(item: "Item") -> str:
    if item.problem:
        return item.problem
    return f"{item.path} ({item.where})" if item.path else "no"


def _fetch(action: Fetch) -> int:
    from jaxdecode import weights

    print(weights.fetch_model(action.name))
    return 0


def _remove(action: Remove) -> int:
    from jaxdecode import weights
    from jaxdecode.weights.registry import known

    model = known(action.name)
    if not action.yes and not _agrees(f"Delete what is kept of {model.name}?"):
        output.note("nothing was deleted")
        return 0
    deleted = weights.remove_model(action.name)
    for path in deleted:
        print(path)
    if not deleted:
        output.note(f"the cache folder holds nothing of {model.name}")
    return 0


def _where(action: Where) -> int:
    from jaxdecode.weights.registry import known, locate

    found = locate(known(action.name))
    if found is None:
        raise FileNotFoundError(
            f"{action.name} is not on this machine; `jaxdecode models fetch "
            f"{action.name}` gets it"
        )
    print(found[0])
    return 0


def _agrees(question: str) -> bool:
    """Ask on the terminal; no answer, or none to be had, is a no."""
    if not sys.stdin.isatty():
        raise ValueError(f"{question} Say --yes where no one can be asked.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
