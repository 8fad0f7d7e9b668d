"""Rows are taken, put and repeated; what all rows share stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.core.pytree import pytree, shared, static
from jaxdecode.core.rows import (
    Bank,
    own_tables,
    put_rows,
    repeat_rows,
    row_axes,
    take_rows,
)


@pytree
class Inner:
    size: jax.Array
    table: jax.Array = shared(default=None)


@pytree
class Sequences:
    tokens: jax.Array
    parts: dict
    bank: Bank | None = None
    name: str = static(default="")


def sequences(start, count, bank=None):
    tokens = jnp.arange(start, start + count * 3, dtype=jnp.int32).reshape(count, 3)
    parts = {
        "inner": Inner(tokens[:, 0] * 10, jnp.asarray([7, 8])),
        "pair": (tokens + 100, None),
    }
    return Sequences(tokens, parts, bank, "x")


def test_taken_rows_stand_in_the_order_of_the_index():
    taken = take_rows(sequences(0, 3), jnp.asarray([2, 0, 2]))
    assert taken.tokens.tolist() == [[6, 7, 8], [0, 1, 2], [6, 7, 8]]
    assert taken.parts["inner"].size.tolist() == [60, 0, 60]
    assert taken.parts["inner"].table.tolist() == [7, 8]
    assert taken.parts["pair"][0][0].tolist() == [106, 107, 108]
    assert taken.name == "x"


def test_a_row_that_is_put_changes_no_other_row():
    rows, new = sequences(0, 3), sequences(50, 1)
    after = jax.jit(put_rows)(rows, 1, new)
    assert after.tokens.tolist() == [[0, 1, 2], [50, 51, 52], [6, 7, 8]]
    assert after.parts["inner"].size.tolist() == [0, 500, 60]
    back = put_rows(after, jnp.asarray([1]), take_rows(rows, jnp.asarray([1])))
    assert back.tokens.tolist() == rows.tokens.tolist()


def test_a_row_put_beyond_the_end_goes_nowhere():
    rows = sequences(0, 3, Bank(np.eye(3, 4), np.arange(3, dtype=np.int32)))
    new = sequences(50, 1, Bank(np.full((1, 4), 9.0), np.zeros(1, np.int32)))
    after = put_rows(rows, 3, new)
    assert after.tokens.tolist() == rows.tokens.tolist()
    assert after.bank.tables.tolist() == np.eye(3, 4).tolist()


def test_rows_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"put_rows: .*got \(2,\)"):
        put_rows(jnp.zeros((3, 4)), 0, jnp.zeros((1, 2)))


def test_repeated_rows_stand_side_by_side():
    twice = repeat_rows(sequences(0, 2), 2)
    assert twice.tokens[:, 0].tolist() == [0, 0, 3, 3]
    assert twice.parts["inner"].table.tolist() == [7, 8]


def test_every_row_looks_up_its_own_table():
    bank = Bank(np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([1, 0, 1], np.int32))
    found = jax.vmap(lambda b: b.table, in_axes=(row_axes(bank),))(bank)
    assert found.tolist() == [[3, 4], [1, 2], [3, 4]]


def test_one_table_serves_all_rows_without_a_copy_for_each():
    bank = Bank.of(np.asarray([1.0, 2.0]), 3)
    assert bank.tables.shape == (1, 2)
    found = jax.vmap(lambda b: b.table, in_axes=(row_axes(bank),))(bank)
    assert found.tolist() == [[1, 2]] * 3


def test_a_row_brings_its_table_along():
    rows = sequences(0, 3, Bank.of(np.asarray([1.0, 2.0]), 3))
    new = sequences(50, 1, Bank.of(np.asarray([5.0, 6.0]), 1))
    with pytest.raises(ValueError, match="own_tables"):
        put_rows(rows, 1, new)
    after = put_rows(own_tables(rows), 1, new)
    assert after.bank.tables.tolist() == [[1, 2], [5, 6], [1, 2]]
    moved = take_rows(after, jnp.asarray([1, 1, 0]))
    assert moved.bank.tables[moved.bank.entry].tolist() == [[5, 6], [5, 6], [1, 2]]


def test_numbers_and_shared_fields_are_not_lifted():
    rows = Inner(np.float32(2.0), np.asarray([7.0, 8.0], np.float32))
    axes = row_axes({"a": rows, "b": np.zeros(3)})
    assert (axes["a"].size, axes["a"].table, axes["b"]) == (None, None, 0)
