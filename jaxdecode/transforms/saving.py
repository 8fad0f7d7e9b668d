"""Links as plain data, and back: settings to keep beside an experiment's results.

The data is made of what JSON has: lists, dicts, strings, numbers. It holds the arguments
a person would write, so that it can be read, and is checked like them when it is read
back. Numbers are written so that float32 gives them back bit for bit; infinities, which
JSON lacks, are strings.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.rows import Bank, resolve_banks
from jaxdecode.core.shapes import NO_ID, NO_LIMIT
from jaxdecode.transforms.base import Link
from jaxdecode.transforms.catalog import LINKS
from jaxdecode.transforms.forcing import ForcedTokens
from jaxdecode.transforms.matching import Matches
from jaxdecode.transforms.sequence_table import SequenceTable
from jaxdecode.transforms.sequences import SequenceBias
from jaxdecode.transforms.vocabulary import LogitBias

VERSION = 1


def describe_links(links: Iterable[Link]) -> dict[str, Any]:
    """Return links as plain data (see `Chain.to_dict`)."""
    return {"version": VERSION, "links": [_describe(link) for link in links]}


def build_links(
    data: Mapping[str, Any], *, links: Iterable[type[Link]] = ()
) -> list[Link]:
    """Return the links that `describe_links` described (see `Chain.from_dict`)."""
    items = data.get("links") if isinstance(data, Mapping) else None
    if not isinstance(items, (list, tuple)):
        raise TypeError(
            'from_dict: `data` must be {"version": 1, "links": [...]}, '
            f"got {check.short(data)}."
        )
    if data.get("version") != VERSION or isinstance(data["version"], bool):
        raise ValueError(
            f"from_dict: `version` must be {VERSION}, "
            f"got {check.short(data.get('version'))}."
        )
    unknown = set(data) - {"version", "links"}
    if unknown:
        raise ValueError(
            f"from_dict: `data` has no field {sorted(map(str, unknown))[0]}."
        )
    known = LINKS | {kind.__name__: kind for kind in links}
    return [_build(item, known) for item in items]


def arguments(link: Link) -> list[dataclasses.Field]:
    """Return the fields that a person gives, in the order of the constructor."""
    fields = dataclasses.fields(link)  # type: ignore[arg-type]
    return sorted((f for f in fields if f.init), key=lambda field: bool(field.kw_only))


def _describe(link: Link) -> dict[str, Any]:
    name = type(link).__name__
    for leaf in jax.tree.leaves(link):
        if check.is_traced(leaf):
            raise TypeError(
                f"to_dict: {name} must have concrete values, got one traced by JAX."
            )
    banks = [v for v in vars(link).values() if isinstance(v, Bank)]
    if any(
        np.shape(leaf)[0] > 1 for bank in banks for leaf in jax.tree.leaves(bank.tables)
    ):
        raise TypeError(
            f"to_dict: {name} must have one table for all rows, got several."
        )
    link = resolve_banks(link)
    write = _WRITERS.get(type(link), _arguments)
    return {"link": name} | write(link)


def _build(item: Any, known: Mapping[str, type[Link]]) -> Link:
    if not isinstance(item, Mapping) or not isinstance(item.get("link"), str):
        raise TypeError(
            'from_dict: every link must be {"link": name, ...}, '
            f"got {check.short(item)}."
        )
    kind = known.get(item["link"])
    if kind is None:
        raise ValueError(f"from_dict: there is no link {check.short(item['link'])}.")
    given = {name: value for name, value in item.items() if name != "link"}
    allowed = inspect.signature(kind).parameters
    for name in given:
        if name not in allowed:
            raise ValueError(f"from_dict: {kind.__name__} has no argument {name!r}.")
    for name, parameter in allowed.items():
        if parameter.default is parameter.empty and name not in given:
            raise ValueError(f"from_dict: {kind.__name__} needs the argument {name!r}.")
    read = _READERS.get(kind, dict)
    return kind(**{name: _number(value) for name, value in read(given).items()})


def _arguments(link: Link) -> dict[str, Any]:
    """Return a link's fields as they were written: ids without their padding."""
    return {
        field.name: _plain(getattr(link, field.name), field)
        for field in arguments(link)
    }


def _plain(value: Any, field: dataclasses.Field) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, SequenceTable):
        return value.lists()
    array = np.asarray(value)
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return _floats(array.astype(np.float32))
    if field.name == "window" and array.ndim == 0 and array == NO_LIMIT:
        return None
    if field.metadata.get("shared") and array.ndim:
        return [int(i) for i in array if i != NO_ID]
    return array.tolist()


def _floats(array: np.ndarray) -> Any:
    """Return float32 numbers as the shortest decimals that give them back."""
    if array.ndim:
        return [_floats(entry) for entry in array]
    number = float(str(array[()]))
    return number if math.isfinite(number) else str(number)


def _number(value: Any) -> Any:
    """Return infinities that were written as words."""
    if isinstance(value, (list, tuple)):
        return [_number(entry) for entry in value]
    return float(value) if value in ("inf", "-inf") else value


def _write_logit_bias(link: LogitBias) -> dict[str, Any]:
    if link.ids is None:
        return {"bias": _floats(np.asarray(link.bias))}
    ids, biases = np.asarray(link.ids), np.asarray(link.bias)
    return {"bias": [[int(i), _floats(b)] for i, b in zip(ids, biases, strict=True)
                     if i != NO_ID]}  # fmt: skip


def _read_logit_bias(given: dict[str, Any]) -> dict[str, Any]:
    """Pairs are a dict; numbers are one bias for each token."""
    bias = given["bias"]
    if isinstance(bias, list) and all(isinstance(entry, list) for entry in bias):
        bias = {_key(entry): _number(entry[1]) for entry in bias}
    return given | {"bias": bias}


def _write_sequence_bias(link: SequenceBias) -> dict[str, Any]:
    rows = link.sequences.lists()
    biases = np.asarray(link.biases)[: len(rows)]
    return {
        "biases": [[ids, _floats(bias)] for ids, bias in zip(rows, biases, strict=True)]
    }


def _write_forced_tokens(link: ForcedTokens) -> dict[str, Any]:
    places: dict[int, list[int]] = {}
    for place, token in zip(np.asarray(link.places), np.asarray(link.ids), strict=True):
        if token != NO_ID:
            places.setdefault(int(place), []).append(int(token))
    return {
        "ids": [[place, ids] for place, ids in places.items()],
        "count_prompt": np.asarray(link.count_prompt).tolist(),
    }


def _read_forced_tokens(given: dict[str, Any]) -> dict[str, Any]:
    ids = given.get("ids", [])
    if isinstance(ids, list):
        ids = {_key(entry): entry[1] for entry in ids}
    return given | {"ids": ids}


def _refuse_tables(link: Matches) -> dict[str, Any]:
    raise TypeError(
        "to_dict: a chain must be without patterns (Regex, JsonSchema, Choice, Matches), "
        f"which belong to a vocabulary, got {link!r}; save the pattern itself."
    )


def _key(entry: Any) -> Any:
    if not isinstance(entry, (list, tuple)) or len(entry) != 2:
        raise TypeError(
            f"from_dict: every entry must be a pair, got {check.short(entry)}."
        )
    return entry[0]


# JSON keys are strings: what is written with ids for keys is saved as pairs.
_WRITERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    LogitBias: _write_logit_bias,
    SequenceBias: _write_sequence_bias,
    ForcedTokens: _write_forced_tokens,
    Matches: _refuse_tables,
}
_READERS: dict[type, Callable[[dict[str, Any]], dict[str, Any]]] = {
    LogitBias: _read_logit_bias,
    ForcedTokens: _read_forced_tokens,
}
