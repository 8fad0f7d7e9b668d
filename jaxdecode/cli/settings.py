"""Settings written in one word, such as temperature=1.5,top_k=0, and lists of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdecode.cli.options import SamplingOptions

# What may be written so: every number of `SamplingOptions`.
NAMES = tuple(
    field.name
    for field in dataclasses.fields(SamplingOptions)
    if field.type in (int, float) and field.name != "min_new_tokens"
)


def read_settings(flag: str, text: str) -> dict[str, float | int]:
    """Return {name: value} for a text such as "temperature=1.5,top_k=0".

    Raises:
      ValueError: for an unknown name, or a value that is no number.
    """
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in NAMES:
            raise ValueError(
                f"{flag} must be NAME=VALUE with a name among {', '.join(NAMES)}, got "
                f"{part!r}."
            )
        found[name] = number(flag, name, value)
    return found


def read_grid(flag: str, texts: tuple[str, ...]) -> dict[str, list[float | int]]:
    """Return {name: values} for texts such as "temperature=0.5,1,1.5".

    Raises:
      ValueError: for an unknown name, one that is given twice, or a value that is no
        number.
    """
    grid: dict[str, list[float | int]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in NAMES or name in grid:
            raise ValueError(
                f"{flag} must be NAME=V,V,... with names among {', '.join(NAMES)}, each "
                f"once, got {text!r}."
            )
        grid[name] = [number(flag, name, value) for value in values.split(",")]
    return grid


def number(flag: str, name: str, text: str) -> float | int:
    """Return the value of a setting, an int for top_k.

    Raises:
      ValueError: if the text is no such number.
    """
    kind = int if name == "top_k" else float
    try:
        return kind(text)
    except ValueError:
        raise ValueError(
            f"{flag}: {name} must be a number, got {text.strip()!r}."
        ) from None


def changed(options: SamplingOptions, values: Mapping[str, Any]) -> SamplingOptions:
    """Return the options with some values changed, each a number or one per row."""
    return dataclasses.replace(options, **values)
