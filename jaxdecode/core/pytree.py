"""Frozen dataclasses that JAX can see through: the one way values are built here.

A class decorated with `@pytree` is immutable, compares by value, prints itself and is
registered with JAX under its field names. Fields are leaves unless declared `static()`.
Unflattening goes around `__init__`: the checks in `__post_init__` run when a person
builds the object, never when JAX rebuilds it with tracers or axis numbers as leaves.
"""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

T = TypeVar("T")
_NODES: set[type] = set()  # the classes that `pytree` made


def static(**kwargs: Any) -> Any:
    """Declare a field that is part of the structure: a new value is a new program."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


def shared(**kwargs: Any) -> Any:
    """Declare a leaf that all rows of a batch share, such as a `[V]` bias."""
    return dataclasses.field(metadata={"shared": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(static, shared))
def pytree(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass registered as a pytree with named leaves."""
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    fixed = tuple(f.name for f in fields if f.metadata.get("static"))

    def flatten_with_keys(node):
        children = [(jax.tree_util.GetAttrKey(n), getattr(node, n)) for n in leaves]
        return children, tuple(getattr(node, n) for n in fixed)

    def flatten(node):
        return [getattr(node, n) for n in leaves], tuple(
            getattr(node, n) for n in fixed
        )

    def unflatten(aux, children):
        node = object.__new__(cls)
        for name, value in zip(fixed, aux, strict=True):
            object.__setattr__(node, name, value)
        for name, value in zip(leaves, children, strict=True):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    _NODES.add(cls)
    if "__eq__" not in cls.__dict__:
        cls.__eq__ = same  # type: ignore[method-assign]
        cls.__hash__ = None  # type: ignore[assignment]
    return cls


def is_node(value: Any) -> bool:
    """Whether a value is of a class that `pytree` made."""
    return type(value) in _NODES


def same(a: Any, b: Any) -> bool:
    """Whether two pytrees have equal structure, dtypes, shapes and values.

    Args:
      a: any pytree of concrete leaves.
      b: another.

    Returns:
      True if nothing distinguishes them; False for different classes.
    """
    if type(a) is not type(b):
        return NotImplemented
    leaves_a, tree_a = jax.tree.flatten(a)
    leaves_b, tree_b = jax.tree.flatten(b)
    return tree_a == tree_b and all(map(_same_leaf, leaves_a, leaves_b))


def _same_leaf(a: Any, b: Any) -> bool:
    kind = np.result_type(a)
    if kind != np.result_type(b) or np.shape(a) != np.shape(b):
        return False
    floating = np.issubdtype(kind, np.floating)
    return np.array_equal(a, b, equal_nan=True) if floating else np.array_equal(a, b)


def replace(node: T, **changes: Any) -> T:
    """Return a copy with some fields changed, without running the host checks.

    `dataclasses.replace` would run `__post_init__`; inside a trace the new values are
    tracers, which a host check cannot read.
    """
    copy = object.__new__(type(node))
    for field in dataclasses.fields(node):  # type: ignore[arg-type]
        value = changes.pop(field.name, getattr(node, field.name))
        object.__setattr__(copy, field.name, value)
    if changes:
        raise TypeError(f"{type(node).__name__} has no field {sorted(changes)[0]!r}")
    return copy


def assign(node: Any, name: str, value: Any) -> None:
    """Set a field of a frozen node while it is being built (in `__post_init__`)."""
    object.__setattr__(node, name, value)
