"""Functions compared by what they are, so that one made anew is not another program.

A lambda in a notebook cell, a closure that a factory returns, a bound method of an equal
frozen dataclass: each is another object every time, and a program that is found by it
would be compiled again. Two functions are taken for equal only if nothing that they
reach by name can differ: code, defaults, what they close over, and the globals that they
use. Whatever can change in place is compared by identity.
"""

import functools
import sys
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

_PLAIN = (type(None), bool, int, str, bytes, type)


class Alike:
    """A function that equals another one which does the same.

    Args:
      function: any callable.
    """

    __slots__ = ("__weakref__", "_hash", "_identity", "function")

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        try:
            self._identity = _value(function, {})
        except RecursionError:  # closures in closures, hundreds deep
            self._identity = _Same(function)
        self._hash = hash(self._identity)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike) and self._identity == other._identity

    def __repr__(self) -> str:
        return repr(self.function)


class _Same:
    """An object that equals itself only; it is kept alive, so that its id is its own."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def _value(value: Any, seen: dict[int, Any]) -> Hashable:
    """Return what a value is; `seen` are the functions that were looked into, by id."""
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, float):
        return float, value.hex()  # -0.0 is not 0.0, and NaN is NaN
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple, tuple(_value(item, seen) for item in value)
    if isinstance(value, Alike):
        return value._identity
    if isinstance(value, functools.partial):
        named = [(name, _value(v, seen)) for name, v in sorted(value.keywords.items())]
        called = _value(value.func, seen), _value(value.args, seen)
        return functools.partial, called, tuple(named)
    if isinstance(value, types.MethodType):
        return "method", _value(value.__func__, seen), _value(value.__self__, seen)
    if isinstance(value, types.FunctionType):
        return _Same(value) if _has_a_name(value) else _function(value, seen)
    if _is_frozen(value):
        held = vars(value)  # its fields, and nothing else
        return type(value), tuple(_value(held[name], seen) for name in sorted(held))
    return (type(value), value) if _is_value(value) else _Same(value)


def _function(function: types.FunctionType, seen: dict[int, Any]) -> Hashable:
    if id(function) in seen:  # it calls itself, or is reached a second way
        return "seen", list(seen).index(id(function))
    seen[id(function)] = function
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(_value(cell.cell_contents, seen))
        except ValueError:  # not assigned yet
            return _Same(function)
    names = sorted(set(_names(function.__code__)))
    reached = [(n, function.__globals__[n]) for n in names if n in function.__globals__]
    return (
        "function",
        function.__code__,
        _Same(function.__globals__),
        tuple(cells),
        _value(function.__defaults__, seen),
        _value(tuple((function.__kwdefaults__ or {}).items()), seen),
        tuple((name, _reached(value, names, seen)) for name, value in reached),
    )


def _has_a_name(function: types.FunctionType) -> bool:
    """Whether its module knows a function by its name, so that it is not made anew."""
    found: Any = sys.modules.get(function.__module__ or "")
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _reached(value: Any, names: list[str], seen: dict[int, Any]) -> Hashable:
    """Return what a global is; of a module, what is used of it, as it may be reloaded."""
    if not isinstance(value, types.ModuleType):
        return _value(value, seen)
    used = [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    return _Same(value), tuple((name, _Same(item)) for name, item in used)


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield every name that code and the code inside it looks up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_frozen(value: Any) -> bool:
    """Whether a value is of a frozen dataclass and holds nothing beside its fields."""
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is None or isinstance(value, type):
        return False
    options = type(value).__dataclass_params__
    held = getattr(value, "__dict__", None)
    if held is None or not (options.frozen and options.eq):
        return False
    return held.keys() <= fields.keys()


def _is_value(value: Any) -> bool:
    """Whether a class says itself when two of its objects are equal, and hashes them."""
    kind = type(value)
    if kind.__hash__ in (None, object.__hash__) or kind.__eq__ is object.__eq__:
        return False
    try:
        hash(value)
    except TypeError:  # one of its parts can change
        return False
    return not isinstance(value, np.generic)  # whose -0.0 equals 0.0
