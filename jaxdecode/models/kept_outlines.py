"""Names, shapes and types of a model's arrays on disk: a second start makes no module.

To make one takes Flax, whose import is a fifth of a warm start. An outline is found by
what it depends on: what the module is made from, our sources, and Flax's version. In use
where finished programs are kept, since without one a module is made in any case.
"""

import contextlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxdecode.core import kept_file
from jaxdecode.core.compile_cache import outlines_folder
from jaxdecode.core.identity import NoIdentity, identity
from jaxdecode.core.sources import sources
from jaxdecode.models.definition import Plan

FORMAT = b"jaxdecode outline 1\n"
SUFFIX = ".outline"
SIZE_MAX = 2**24  # bytes; beyond it, the least recently used outlines are deleted


def load(plan: Plan) -> dict[str, jax.ShapeDtypeStruct] | None:
    """Return the outline of a model by name, in the order of its leaves, or None."""
    place = _place(plan)
    body = None if place is None else kept_file.read(place, FORMAT)
    if body is None:
        return None
    return {
        name: jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(kind))
        for name, shape, kind in json.loads(body)
    }


def keep(plan: Plan, outline: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Keep the outline of a model; a folder that cannot be written is no error."""
    place = _place(plan)
    if place is None:
        return
    found = [(name, leaf.shape, leaf.dtype.name) for name, leaf in outline.items()]
    with contextlib.suppress(OSError):
        kept_file.write(place, FORMAT, json.dumps(found).encode(), size_max=SIZE_MAX)


def _place(plan: Plan) -> Path | None:
    folder = outlines_folder()
    if folder is None:
        return None
    try:
        name = identity((plan, sources(), importlib.metadata.version("flax")))
    except NoIdentity:  # a family of the user's, whose code may change
        return None
    return folder / f"{name.hex()[:40]}{SUFFIX}"
