"""Warnings of what costs a compilation, or a copy of the weights, without being seen.

Each is given once for a kind of model. Programs are right all the same.
"""

import re
import sys
import warnings
from collections import Counter
from collections.abc import Hashable
from typing import Any

import jax

from jaxdecode.core import check

SEEN_MIN = 3  # models of one look: two may well be meant
CONSTANTS_MIN = 2**20  # bytes; fewer do not matter in a program
_ADDRESS = re.compile(r"0x[0-9a-f]+")

_looks: Counter[Hashable] = Counter()
_warned: set[Hashable] = set()


class RecompilationWarning(UserWarning):
    """Something is compiled again at every call, or baked into a program."""


def note_structure(who: str, structure: Any, arrays: Hashable) -> None:
    """Warn at the third model that looks like others and yet is another program.

    Functions that cannot be compared by what they are, such as closures over arrays,
    are compared by identity: one made anew at each call compiles each time.

    Args:
      who: the function that was called.
      structure: the `programs.Structure` of a model that was not seen before.
      arrays: shapes and types of its arrays.
    """
    kinds = tuple(type(leaf).__qualname__ for leaf in structure.rest)
    look = _ADDRESS.sub("", repr(structure.treedef)), kinds, arrays
    _looks[look] += 1
    if _looks[look] == SEEN_MIN:
        _warn(
            f"{who}: the model is compiled again, for the third time: its functions, or "
            "itself, are other objects at each call and cannot be compared by what they "
            "hold. Make them once, outside the loop; pass arrays as `params`, not in a "
            "closure; or use frozen dataclasses.",
        )


def note_constants(arrays: list[Any], others: Any) -> None:
    """Warn if a model's arrays are constants of the jit that a call is traced in.

    Args:
      arrays: the model's.
      others: the other arguments, traced in a jit or not.
    """
    if not any(_in_jit(leaf) for leaf in jax.tree.leaves(others)):
        return
    size = sum(x.nbytes for x in arrays if not check.is_traced(x))
    if size < CONSTANTS_MIN or size in _warned:
        return
    _warned.add(size)
    _warn(
        f"jaxdecode: {size / 2**20:.0f} MB of the model are constants of your jit, which "
        "copies them into the program and is compiled again for other weights. Pass the "
        "model as an argument of the function that you compile.",
    )


def _in_jit(leaf: Any) -> bool:
    return check.is_traced(leaf) and "Jaxpr" in type(leaf).__name__


def _warn(message: str) -> None:
    warnings.warn(message, RecompilationWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return how many frames up the first is that is not of this package."""
    level, frame = 0, sys._getframe()
    while frame is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    return level


def _is_ours(frame: Any) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("jaxdecode.")
