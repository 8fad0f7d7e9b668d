"""What a value is, as a hash that is the same in every process.

For what decides a compiled program and is no array: sizes, switches, the structure of
trees, functions. A value of which less than everything would be hashed is refused, since
two different ones could then be taken for one.
"""

import dataclasses
import enum
import functools
import hashlib
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

# Whose code is known by the versions and sources that a caller hashes beside the value.
KNOWN = ("jaxdecode", "jax", "jaxlib", "flax", "numpy", "ml_dtypes", "builtins")
_PLAIN = (type(None), bool, int, str, bytes)


class NoIdentity(Exception):
    """A value that may change, or whose code may, without being seen."""


def identity(value: Any) -> bytes:
    """Return 32 bytes that two values share only if they mean the same.

    Args:
      value: plain values, types and functions that a known package holds by name, and
        tuples, lists, dicts, sets, tree structures and dataclasses of such values. An
        object may name what it is by an attribute `identity`.

    Raises:
      NoIdentity: for anything else, such as a function of the user's.
    """
    return hashlib.sha256(_text(value)).digest()


def _text(value: Any) -> bytes:
    """Return bytes from which the value could be read back; each part says its length."""
    kind = type(value)
    if kind in _PLAIN:
        return _joined(kind.__name__, repr(value))
    if kind is float:
        return _joined("float", value.hex())
    if kind in (tuple, list):
        return _joined(kind.__name__, *map(_text, value))
    if isinstance(value, tuple) and hasattr(kind, "_fields"):  # a NamedTuple
        return _joined("named", _name(kind), *map(_text, value))
    if kind in (set, frozenset):
        return _joined("set", *sorted(map(_text, value)))
    if isinstance(value, type):
        return _joined("type", _name(value))
    if isinstance(value, jax.tree_util.PyTreeDef):
        return _joined("tree", *_tree(value))
    if isinstance(value, np.dtype) or _is_key_type(value):
        return _joined("dtype", str(value))
    if isinstance(value, enum.Enum):
        return _joined("enum", _name(kind), value.name)
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return _joined("partial", *map(_text, parts))
    if isinstance(value, types.FunctionType) or _is_wrapped(value):
        return _joined("function", _name(value))
    if isinstance(value, Mapping):
        return _joined(_name(kind), *map(_text, value.items()))
    return _joined("object", _name(kind), *map(_text, _parts(value)))


def _tree(structure: Any) -> Iterable[bytes]:
    found = structure.node_data()
    yield b"leaf" if found is None and structure.num_leaves else b"node"
    if found is not None:
        yield _text(found[0])
        yield _text(found[1])
    for child in structure.children():
        yield _joined("child", *_tree(child))


def _parts(value: Any) -> list[Any]:
    """Return everything that an object holds."""
    if hasattr(type(value), "identity"):
        return [value.identity]
    if not dataclasses.is_dataclass(value):
        raise NoIdentity(f"an object of {type(value).__qualname__}")
    names = {field.name for field in dataclasses.fields(value)}
    if not getattr(value, "__dict__", {}).keys() <= names:
        raise NoIdentity(f"{type(value).__qualname__} with more than its fields")
    return [(name, getattr(value, name)) for name in sorted(names)]


def _name(value: Any) -> str:
    """Return under which name a known package holds a type or a function."""
    module, name = value.__module__ or "", value.__qualname__
    if module.partition(".")[0] not in KNOWN:
        raise NoIdentity(f"{module}.{name}, which is not of a known package")
    if module == "builtins":  # also NoneType, which does not stand there
        return name
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value:
        raise NoIdentity(f"{module}.{name}, which is another one there")
    return f"{module}.{name}"


def _is_key_type(value: Any) -> bool:
    scalar = getattr(value, "type", None)
    return isinstance(scalar, type) and issubclass(scalar, jax.dtypes.prng_key)


def _is_wrapped(value: Any) -> bool:
    """Whether a value is a function in another guise, such as one under `jax.jit`."""
    return callable(value) and isinstance(
        getattr(value, "__wrapped__", None), types.FunctionType
    )


def _joined(*parts: str | bytes) -> bytes:
    pieces = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(b"%d:%b" % (len(piece), piece) for piece in pieces)
