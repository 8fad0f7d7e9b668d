"""`jaxdecode models`: the models known by name, and which are on this machine."""

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitSubcommandPrefixes, Positional, arg, subcommand

from jaxdecode.cli import interrupt, output

if TYPE_CHECKING:
    from jaxdecode.weights import Item


@dataclass(frozen=True)
class List:
    """Show the known models: size, licence, and where they are on this machine."""


@dataclass(frozen=True)
class Fetch:
    """Download a model into the cache folder, unless it is on this machine."""

    name: Positional[str]
    """A known name."""

    accept_licence: bool = False
    """Accept the terms of a model that has some of its own; remembered."""


@dataclass(frozen=True)
class Remove:
    """Delete the files of a model from the cache folder."""

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
class Show:
    """Print what is known of a model: sizes, types, tokenizer, template, licence."""

    name: Annotated[Positional[str], arg(metavar="NAME|PATH")]
    """A known name, a folder, a .gguf file, or org/name."""


@dataclass(frozen=True)
class Models:
    """List, show, fetch and remove models."""

    action: OmitSubcommandPrefixes[
        Annotated[List, subcommand("list")]
        | Annotated[Fetch, subcommand("fetch")]
        | Annotated[Remove, subcommand("remove")]
        | Annotated[Where, subcommand("path")]
        | Annotated[Show, subcommand("show")]
    ] = field(default_factory=List)


Command = Annotated[Models, subcommand("models")]


def run(args: Models) -> int:
    """Run the action that was asked for."""
    with interrupt.exit_at_once():
        import jaxdecode.weights  # noqa: F401
    action = args.action
    actions = {List: _list, Fetch: _fetch, Remove: _remove, Where: _where}
    actions[Show] = _show
    return actions[type(action)](action)


def _list(action: List) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from jaxdecode import weights

    table = Table("name", box=box.SIMPLE_HEAD)
    table.add_column("download", justify="right")
    for name in ("licence", "on this machine"):
        table.add_column(name, overflow="fold")
    table.add_column("description")
    for item in weights.inventory():
        model = item.model
        table.add_row(
            model.name,
            _megabytes(model.download),
            model.licence,
            _location(item),
            model.title,
        )
    # Wide enough for one line per model where a program reads the output.
    Console(width=None if output.is_terminal() else 200).print(table)
    return 0


def _location(item: "Item") -> str:
    if item.problem:
        return item.problem
    return f"{item.path} ({item.where})" if item.path else "no"


def _fetch(action: Fetch) -> int:
    from jaxdecode import weights

    print(weights.fetch_model(action.name, accept_licence=action.accept_licence))
    return 0


def _remove(action: Remove) -> int:
    from jaxdecode import weights
    from jaxdecode.weights.registry import known

    model = known(action.name)
    if not action.yes and not _confirmed(f"Delete the files of {model.name}?"):
        output.note("nothing was deleted")
        return 0
    deleted = weights.remove_model(action.name)
    for path in deleted:
        print(path)
    if not deleted:
        output.note(f"the cache folder holds no files of {model.name}")
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


def _show(action: Show) -> int:
    with interrupt.exit_at_once():
        from jaxdecode import weights
        from jaxdecode.text.description import describe_model
        from jaxdecode.weights.registry import KNOWN, locate

    known = KNOWN.get(action.name)
    if known is None or locate(known):
        lines = describe_model(weights.resolve(action.name))
    else:
        lines = {
            "name": known.title,
            "family": known.family,
            "parameters": f"{known.parameters:,}",
            "file": f"{known.file}, {_megabytes(known.size)}",
            "licence": known.licence,
            "path": f"not on this machine; `jaxdecode models fetch {known.name}` gets it",
        }
    width = max(map(len, lines))
    for name, line in lines.items():
        # One line each, whatever a file says: no line end and no control character.
        shown = "".join(c if c.isprintable() else " " for c in line)
        print(f"{name:{width}}  {shown}")
    return 0


def _confirmed(question: str) -> bool:
    """Ask on the terminal; anything but y or yes means no.

    Raises:
      ValueError: if standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise ValueError(f"{question} Give --yes where nobody can answer.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
