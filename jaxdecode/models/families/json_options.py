"""Options of a `config.json`: what is missing or out of range is refused by its name."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from jaxdecode.core.check import short
from jaxdecode.models.families.errors import CheckpointError
from jaxdecode.models.fields import as_float

LAYERS_MAX = 1024  # bounds what is enumerated before any weight was seen


def need(raw: Mapping[str, Any], name: str) -> Any:
    """Return an option that must be there.

    Raises:
      CheckpointError: if it is absent or null.
    """
    if raw.get(name) is None:
        raise CheckpointError(f"config.json: `{name}` is missing.")
    return raw[name]


def layer_count(raw: Mapping[str, Any], name: str) -> int:
    """Return the number of layers, which is bounded because layers are enumerated.

    Raises:
      CheckpointError: if it is absent or out of range.
    """
    count = need(raw, name)
    if type(count) is not int or not 1 <= count <= LAYERS_MAX:
        raise CheckpointError(
            f"config.json: `{name}` must be in [1, {LAYERS_MAX}], got {short(count)}."
        )
    return count


def number(name: str, value: Any) -> float:
    """Return an option's value as a float.

    Raises:
      CheckpointError: if it is not a finite number.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(as_float(value)):
        raise CheckpointError(
            f"config.json: `{name}` must be a finite number, got {short(value)}."
        )
    return float(value)
