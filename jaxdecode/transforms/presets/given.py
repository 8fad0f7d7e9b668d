"""What presets do with their arguments: take the given ones, refuse the others."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.transforms.base import Link
from jaxdecode.transforms.chain import Chain, chain


def given(value: Any, build: Callable[[Any], Link]) -> Link | None:
    """Return the link of an argument, or None if it was not given."""
    return None if value is None else build(value)


def chain_of(*links: Link | None) -> Chain:
    """Return the chain of those links that there are."""
    return chain(*(link for link in links if link is not None))


def refuse(who: str, values: Mapping[str, Any], reason: str) -> None:
    """Raise TypeError for the first argument that was given all the same."""
    for name, value in values.items():
        if value is not None:
            raise TypeError(f"{who}: `{name}` has no meaning {reason}.")


def together(who: str, **values: Any) -> None:
    """Raise TypeError if some of these arguments were given, and some not."""
    missing = [name for name, value in values.items() if value is None]
    if missing and len(missing) < len(values):
        found = next(name for name in values if name not in missing)
        raise TypeError(f"{who}: `{found}` has no meaning without `{missing[0]}`.")


def where(value: Any, condition: Callable[[Any], Any], other: Any) -> Any:
    """Return `value` with `other` where a condition holds; what is no number stays."""
    if check.is_traced(value):
        return jnp.where(condition(value), jnp.asarray(other, value.dtype), value)
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or not array.size:
        return value  # for the link to refuse
    return np.where(condition(array), np.asarray(other, array.dtype), array)
