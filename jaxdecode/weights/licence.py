"""Models whose makers ask for consent to their terms before they are used.

Consent is given once: on a terminal, by `jaxdecode models fetch NAME --accept-licence`,
or by the environment variable `JAXDECODE_ACCEPT_LICENCE`, which names models. The first
two are remembered in the cache folder.
"""

import os
import sys
from pathlib import Path

from jaxdecode.core.cache_folder import cache_folder
from jaxdecode.weights.errors import DownloadError
from jaxdecode.weights.registry import KnownModel

VARIABLE = "JAXDECODE_ACCEPT_LICENCE"


def require_consent(model: KnownModel) -> None:
    """Ask for consent to the terms of a model, unless it has none or it was given.

    Raises:
      DownloadError: if consent is refused, or there is nobody to ask.
    """
    if not model.terms or is_accepted(model):
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        sys.stderr.write(
            f"{model.name} has a licence of its own, {model.licence}: {model.terms}\n"
            "Do you accept it? [y/N] "
        )
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return accept(model)
    raise DownloadError(
        f"{model.name}: its licence, {model.licence} ({model.terms}), must be accepted "
        f"first: `jaxdecode models fetch {model.name} --accept-licence`, or set "
        f"{VARIABLE}={model.name}."
    )


def is_accepted(model: KnownModel) -> bool:
    """Return whether consent to the terms of a model was given."""
    named = os.environ.get(VARIABLE, "").replace(",", " ").split()
    return model.name in named or _note(model).is_file()


def accept(model: KnownModel) -> None:
    """Remember that the terms of a model were accepted."""
    if model.terms:
        _note(model).parent.mkdir(parents=True, exist_ok=True)
        _note(model).write_text(f"{model.licence}, {model.terms}\n")


def _note(model: KnownModel) -> Path:
    return cache_folder() / "licences" / model.name
