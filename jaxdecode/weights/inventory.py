"""Known models and their files on this machine, for the `models` command."""

from dataclasses import dataclass
from pathlib import Path

from jaxdecode.weights.converted import STORED, converted_place
from jaxdecode.weights.hashes import forget
from jaxdecode.weights.licence import accept
from jaxdecode.weights.registry import KNOWN, KnownModel, known, locate
from jaxdecode.weights.resolve import find_known


@dataclass(frozen=True)
class Item:
    """A known model and whether it is on this machine.

    Attributes:
      model: the known model.
      path: where it is, or None.
      where: "environment", "cache" or "package", or None.
      converted: the converted copies that are kept of it.
      problem: why it cannot be used now, or None.
    """

    model: KnownModel
    path: Path | None
    where: str | None
    converted: tuple[Path, ...] = ()
    problem: str | None = None


def inventory() -> list[Item]:
    """Return every known model, whether it is here, and where."""
    return [_item(model) for model in KNOWN.values()]


def fetch_model(
    name: str, *, progress: bool | None = None, accept_licence: bool = False
) -> Path:
    """Make sure that a known model is on this machine.

    Args:
      name: a known name.
      accept_licence: whether its terms, if it has any, are accepted herewith.
      progress: whether to show a bar on stderr; None: if it is a terminal.

    Returns:
      Where it is; nothing is downloaded if it is here already.

    Raises:
      ValueError: for an unknown name.
      DownloadError: if it cannot be downloaded, or its terms are not accepted.
    """
    model = known(name)
    if accept_licence:
        accept(model)
    return find_known(model, progress=progress)


def remove_model(name: str) -> list[Path]:
    """Delete the files of a known model in the cache folder.

    Files of the user, such as an installed package, are kept.

    Args:
      name: a known name.

    Returns:
      The files that were deleted, converted copies included.

    Raises:
      ValueError: for an unknown name.
    """
    model = known(name)
    item = _item(model)
    doomed = {model.place, *_copies(model.place), *item.converted}
    doomed = sorted(path for path in doomed if path.exists())
    for path in doomed:
        path.unlink()
    for path in {model.place, item.path or model.place}:
        forget(path)
    return doomed


def _item(model: KnownModel) -> Item:
    try:
        found = locate(model)
    except FileNotFoundError as error:
        return Item(model, None, None, problem=str(error))
    if found is None:
        return Item(model, None, None)
    path, where = found
    return Item(model, path, where, tuple(_copies(path)))


def _copies(path: Path) -> list[Path]:
    places = [converted_place(path, dtype) for dtype in STORED]
    kinds = (*STORED, "int8")
    places += [converted_place(path, dtype, laid_out=True) for dtype in kinds]
    return [place for place in places if place.exists()]
