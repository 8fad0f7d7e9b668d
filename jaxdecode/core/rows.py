"""Values of many rows, and what is done to their rows: take, put, repeat, lift.

A row is one sequence. In a value of R rows every leaf has the row axis first, except
fields declared `shared()`, which belong to all rows unless they hold a `Bank`. Nothing
here knows what a row holds: admitting a request, harvesting a result and following a
beam's parents are the same few functions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.pytree import is_node, pytree, replace, shared
from jaxdecode.core.shapes import Array

T = TypeVar("T")


class Indexed:
    """Base class of tables that a row reads in a few places only.

    To cut one row's table out of a bank would write all of it. A row sees every table
    instead, with its own number in the field `entry`, which is None outside a bank.
    """


@pytree
class Bank:
    """Tables of which each row uses one, such as a bias for every token.

    A table may be far larger than a row, so rows that use the same one keep one copy.

    Attributes:
      tables: leaves [A, ...], for A tables. Shared by all rows.
      entry: int32 [R], the table of each row.
    """

    tables: Any = shared()
    entry: Array

    @staticmethod
    def of(table: Any, rows: int) -> "Bank":
        """Return the bank of one table that `rows` rows use."""
        tables = jax.tree.map(lambda leaf: leaf[None], table)
        return Bank(tables, np.zeros((rows,), np.int32))

    @property
    def table(self) -> Any:
        """The table of one row, where `entry` is a scalar (inside `vmap`)."""
        if isinstance(self.tables, Indexed):
            return replace(self.tables, entry=self.entry)

        # One table for all rows needs no gather: a whole table per row would be written.
        def look_up(leaf):
            lone = np.shape(leaf)[0] == 1
            return leaf[0] if lone else jnp.asarray(leaf)[self.entry]

        return jax.tree.map(look_up, self.tables)


def take_rows(rows: T, index: Any) -> T:
    """Return some rows, in the order of `index`.

    Args:
      rows: a value of R rows.
      index: int32 [N], each in [0, R - 1]; a row may be taken twice.

    Returns:
      The same kind of value with N rows.
    """
    return _map_rows(lambda leaf: _at_rows(leaf, index), rows)


def put_rows(rows: T, index: Any, new: T) -> T:
    """Return the rows with some of them replaced.

    Tables of a `Bank` are replaced with their row, so each of the rows must have its own
    (see `own_tables`).

    Args:
      rows: a value of R rows.
      index: int32 [N], or a scalar for N = 1, without repeats; an index of R or more
        puts its row nowhere.
      new: a value of N rows with leaves of the same shapes.

    Raises:
      ValueError: if two or more rows share their only table, or shapes differ.
    """
    index = jnp.atleast_1d(index)

    def put(old, new):
        if isinstance(old, Bank):
            return _put_tables(old, index, new)
        if np.shape(old)[1:] != np.shape(new)[1:]:
            raise ValueError(
                f"put_rows: `new` must have leaves like those of `rows` "
                f"({np.shape(old)[1:]} a row), got {np.shape(new)[1:]}."
            )
        return jnp.asarray(old).at[index].set(new, mode="drop")

    return _map_rows(put, rows, new, whole=(Bank,))


def repeat_rows(rows: T, times: int) -> T:
    """Return every row `times` times, copies side by side: a, a, b, b, ..."""
    if times == 1:
        return rows
    return _map_rows(lambda leaf: _repeat(leaf, times), rows)


def own_tables(rows: T) -> T:
    """Return the rows with a table of its own for each row, in every `Bank`."""

    def own(leaf):
        if not isinstance(leaf, Bank):
            return leaf
        count = np.shape(leaf.entry)[0]
        tables = jax.tree.map(lambda t: jnp.asarray(t)[leaf.entry], leaf.tables)
        return Bank(tables, jnp.arange(count, dtype=jnp.int32))

    return _map_rows(own, rows, whole=(Bank,))


def resolve_banks(rows: T) -> T:
    """Return the value of one row with its table in the place of every `Bank`."""

    def resolve(node):
        return node.table if isinstance(node, Bank) else node

    return jax.tree.map(resolve, rows, is_leaf=lambda node: isinstance(node, Bank))


def row_axes(rows: Any) -> Any:
    """Return the `in_axes` with which `vmap` lifts a function of one row over `rows`.

    A number in the place of one value per row serves every row.
    """

    def axes(node):
        if not is_node(node):
            return jax.tree.map(
                lambda leaf: axes(leaf) if is_node(leaf) else _axis(leaf),
                node,
                is_leaf=is_node,
            )
        changes = {
            field.name: axes(getattr(node, field.name)) for field in _row_fields(node)
        }
        rest = {field.name: None for field in _shared_fields(node)}
        return replace(node, **changes, **rest)

    return axes(rows)


def _map_rows(function: Callable, rows: Any, *others: Any, whole: tuple = ()) -> Any:
    """Apply a function to each leaf that has rows; `whole` kinds count as leaves."""

    def is_leaf(node):
        return is_node(node)

    def one(node, *same):
        if isinstance(node, whole) or not is_node(node):
            return function(node, *same)
        changes = {}
        for field in _row_fields(node):
            parts = (getattr(n, field.name) for n in (node, *same))
            changes[field.name] = walk(*parts)
        return replace(node, **changes)

    def walk(node, *same):
        return jax.tree.map(one, node, *same, is_leaf=is_leaf)

    return walk(rows, *others)


def _row_fields(node: Any) -> list[dataclasses.Field]:
    fields = [f for f in dataclasses.fields(node) if not f.metadata.get("static")]
    return [f for f in fields if not _is_shared(node, f)]


def _shared_fields(node: Any) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(node) if _is_shared(node, f)]


def _is_shared(node: Any, field: dataclasses.Field) -> bool:
    is_bank = isinstance(getattr(node, field.name), Bank)  # it has an entry per row
    return bool(field.metadata.get("shared")) and not is_bank


def _axis(leaf: Any) -> int | None:
    return 0 if np.ndim(leaf) else None


def _at_rows(leaf: Any, index: Any) -> Any:
    return jnp.asarray(leaf)[index] if np.ndim(leaf) else leaf


def _repeat(leaf: Any, times: int) -> Any:
    if not np.ndim(leaf):
        return leaf
    # numpy where it can: an eager jax operation is a program of its own
    of = np if isinstance(leaf, np.ndarray) else jnp
    return of.repeat(leaf, times, axis=0)


def _put_tables(bank: Bank, index: jax.Array, new: Bank) -> Bank:
    count = np.shape(bank.entry)[0]
    if count > 1 and any(len(leaf) == 1 for leaf in jax.tree.leaves(bank.tables)):
        raise ValueError(
            f"put_rows: each of the {count} rows must have a table of its own, got one "
            "for all; see own_tables."
        )
    inside = index < count
    target = jnp.where(inside, jnp.asarray(bank.entry)[index % count], count)

    def put(old, fresh):
        fresh = jnp.asarray(fresh)[jnp.asarray(new.entry)]
        return jnp.asarray(old).at[target].set(fresh, mode="drop")

    return replace(bank, tables=jax.tree.map(put, bank.tables, new.tables))
