"""A matrix [O, I] stored as the kernels read it: 32 outputs side by side.

A panel holds 32 outputs; its lines follow the inputs, and each line has one word per
output: a float32, two bfloat16 or two int8 of neighbouring inputs. Missing outputs and
inputs are zeros. Words are unsigned integers where they hold two numbers: XLA moves
integers as they are, and converts a whole bfloat16 array to move one row.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree, static

PANEL = 32
ALIGNMENT = 64
WORDS = {"float32": np.float32, "bfloat16": np.uint32, "int8": np.uint16}
HALVES = {"bfloat16": jnp.bfloat16, "int8": jnp.int8}


@pytree
class Panels:
    """A matrix [O, I] in panels.

    Attributes:
      words: float32 [ceil(O / 32), I, 32], or uint32 (two bfloat16) or uint16 (two int8)
        [ceil(O / 32), ceil(I / 2), 32].
      shape: (O, I). Static.
      kind: "float32", "bfloat16" or "int8". Static.
    """

    words: Any
    shape: tuple[int, int] = static()
    kind: str = static()


@pytree
class Choice:
    """One of several values that are alike, chosen while the program runs.

    A loop over layers multiplies by another matrix each time; the kernels are given all
    of them and a number, so that none is moved for it.

    Attributes:
      options: C of them, `Panels` or arrays, of one shape and type.
      chosen: int32 (), which one, in [0, C - 1].
    """

    options: tuple[Any, ...]
    chosen: Any


def pack(matrix: Any) -> Panels:
    """Return a float32, bfloat16 or int8 matrix [O, I] in panels; it may be traced."""
    kind = np.dtype(matrix.dtype).name
    outputs, inputs = matrix.shape
    numbers = 1 if kind == "float32" else 2
    count, steps = -(-outputs // PANEL), -(-inputs // numbers)
    of = jnp if check.is_traced(matrix) else np
    missing = ((0, count * PANEL - outputs), (0, steps * numbers - inputs))
    if any(map(any, missing)):
        matrix = of.pad(matrix, missing)
    if of is np:
        words = np.ascontiguousarray(matrix).view(WORDS[kind])
    elif kind == "float32":
        words = matrix
    else:
        halves = matrix.reshape(count * PANEL, steps, numbers)
        words = lax.bitcast_convert_type(halves, WORDS[kind])
    lines = of.swapaxes(words.reshape(count, PANEL, steps), 1, 2)
    placed = lines if check.is_traced(matrix) else _placed(np.asarray(lines))
    return Panels(placed, shape=(outputs, inputs), kind=kind)


def _placed(lines: np.ndarray) -> jax.Array:
    """Return a copy, in memory of numpy's: it asks for large pages, which XLA does not.

    The kernels read a large matrix faster from such, see `weights/safetensors_file.py`.
    """
    room = np.empty(lines.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT  # a device takes aligned arrays as they are
    words = room[start : start + lines.nbytes].view(lines.dtype).reshape(lines.shape)
    words[...] = lines
    return jax.device_put(words)


def packed_shape(shape: tuple[int, int], kind: str) -> tuple[int, int, int]:
    """Return the shape of the words of a matrix of shape (O, I)."""
    outputs, inputs = shape
    return -(-outputs // PANEL), -(-inputs // (1 if kind == "float32" else 2)), PANEL


def unpack(panels: Panels) -> jax.Array:
    """Return the matrix [O, I] of `panels`."""
    outputs, inputs = panels.shape
    rows = jnp.swapaxes(panels.words, -1, -2)  # [.., panel, 32, step]
    rows = rows.reshape(*rows.shape[:-3], -1, rows.shape[-1])
    return _numbers(rows, panels.kind)[..., :outputs, :inputs]


def unpacked(array: Any) -> Any:
    """Return an array as it is, and the matrix of `Panels`."""
    return unpack(array) if isinstance(array, Panels) else array


def resolved(value: Any) -> Any:
    """Return what was chosen of a `Choice`, and anything else as it is."""
    if not isinstance(value, Choice):
        return value
    alike = jax.tree.map(lambda *leaves: jnp.stack(leaves), *value.options)
    return jax.tree.map(lambda leaf: leaf[value.chosen], alike)


def look_up(panels: Panels, ids: jax.Array) -> jax.Array:
    """Return the rows of the matrix at int32 `ids` [...]: [..., I]."""
    # Not `//` and `%`: for what may be negative they are ten operations each.
    panel, place = lax.div(ids, np.int32(PANEL)), lax.rem(ids, np.int32(PANEL))
    words = panels.words[panel, :, place]
    return _numbers(words, panels.kind)[..., : panels.shape[1]]


def _numbers(words: jax.Array, kind: str) -> jax.Array:
    if kind == "float32":
        return words
    halves = lax.bitcast_convert_type(words, HALVES[kind])  # the low one first
    return halves.reshape(*words.shape[:-1], -1)
