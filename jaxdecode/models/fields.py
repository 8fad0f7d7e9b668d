"""Checks of a frozen dataclass's fields; errors name the class and the field.

What passes is stored as a plain int or float, so that equal values hash alike.
"""

import math
import numbers
from typing import Any

from jaxdecode.core import check


def positive(node: Any, *names: str) -> None:
    """Check that fields are finite numbers > 0, and store them as floats.

    Args:
      node: the object being built; errors name its class.
      *names: the fields.

    Raises:
      TypeError: for a value that is not a number.
      ValueError: for one out of range.
    """
    for name in names:
        value = getattr(node, name)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(
                f"{type(node).__name__}: `{name}` must be a number, "
                f"got {check.short(value)}."
            )
        if not 0.0 < as_float(value) < math.inf:
            raise ValueError(
                f"{type(node).__name__}: `{name}` must be finite and > 0, "
                f"got {check.short(value)}."
            )
        object.__setattr__(node, name, float(value))


def as_float(value: Any) -> float:
    """Return a real number as a float; one too large for it is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def sizes(node: Any, *names: str) -> None:
    """Check that fields are whole numbers >= 1, and store them as ints.

    Args:
      node: the object being built; errors name its class.
      *names: the fields.

    Raises:
      TypeError: for a value that is not one whole number.
      ValueError: for one out of range.
    """
    who = type(node).__name__
    for name in names:
        value = check.whole(who, name, getattr(node, name), low=1)
        if value.ndim:
            raise TypeError(
                f"{who}: `{name}` must be one number, "
                f"got {check.short(getattr(node, name))}."
            )
        object.__setattr__(node, name, int(value))


def layers(node: Any, name: str, count: int) -> None:
    """Check that a field lists layers, and store them in order, each once.

    Args:
      node: the object being built; errors name its class.
      name: the field.
      count: how many layers there are.

    Raises:
      TypeError: for an index that is not a whole number.
      ValueError: for a layer that the model lacks.
    """
    listed = tuple(getattr(node, name))
    for layer in listed:
        check.whole(type(node).__name__, name, layer, low=0, high=count - 1)
    object.__setattr__(node, name, tuple(sorted(map(int, listed))))
