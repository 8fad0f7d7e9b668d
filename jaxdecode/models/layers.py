"""The parts every block is made of: linear maps, an embedding table, norms.

Each layer takes and returns float32; how a matrix is stored and multiplied is its own
affair (`matrix.py`).
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxdecode.models.joined import are_all_of_one
from jaxdecode.models.matrix import DTYPES, Matrix, Panelled, Side, matrix_of
from jaxdecode.native import GATES, resolved

_seen: contextvars.ContextVar[list[tuple[Any, jax.Array]] | None]
_seen = contextvars.ContextVar("seen", default=None)


@contextlib.contextmanager
def inputs_of_products() -> Iterator[list[tuple[Any, jax.Array]]]:
    """List the products that are made meanwhile: the first map of each, and its rows."""
    seen: list[tuple[Any, jax.Array]] = []
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def project(
    x: jax.Array,
    norm: "RMSNorm | LayerNorm | Gate | None",
    *maps: "Linear | Embedding",
) -> list[jax.Array]:
    """Return what each map makes of `norm(x)`, in one call where a kernel can.

    Args:
      x: float32 [..., I].
      norm: what is done to `x` first; None is nothing.
      *maps: affine maps of the same inputs.

    Returns:
      float32 [..., O] each.
    """
    seen = _seen.get()
    if seen is not None:
        seen.append((maps[0], x if norm is None else norm(x)))
    first, *others = [m.matrix for m in maps]
    results = first.products(x, others, norm)
    return [
        y if m.offset is None else y + over_last(m.offset, y)
        for y, m in zip(results, maps, strict=True)
    ]


def are_joined(*maps: "Linear") -> bool:
    """Whether `project` makes one array of what these maps make."""
    matrices: list[Any] = [m.matrix for m in maps]
    if not all(isinstance(matrix, Side) for matrix in matrices):
        return False
    return are_all_of_one([matrix.part for matrix in matrices])


def can_project_in_parts(parts: int, *maps: "Linear") -> bool:
    """Whether `project_in_parts` takes such maps: matrices of one array, no biases."""
    if not are_joined(*maps):
        return False
    first: Any = maps[0].matrix
    plain = all(m.offset is None for m in maps) and _seen.get() is None
    return plain and first.scale is None and first.part.shape[1] % parts == 0


def project_in_parts(
    x: jax.Array, norm: "RMSNorm | LayerNorm | None", parts: int, *maps: "Linear"
) -> list[jax.Array]:
    """Do `project` with results float32 [parts, ..., O] that are still to be summed.

    A product of few rows is cut along its inputs to keep a GPU busy; who reads it next
    can sum the parts, which saves a kernel.
    """
    matrices: list[Any] = [m.matrix for m in maps]
    first, *others = matrices
    return first.products_in_parts(x, others, norm, parts)


def project_onto(
    onto: jax.Array | None, x: jax.Array, norm: "Gate | None", linear: "Linear"
) -> jax.Array:
    """Return `onto` plus what a map makes of `norm(x)`, in one call where a kernel can.

    Args:
      onto: float32 [..., O]; None is nothing.
      x: float32 [..., I].
      norm: what is done to `x` first; None is nothing.
      linear: an affine map.
    """
    if onto is None:
        return project(x, norm, linear)[0]
    matrix = linear.matrix
    if isinstance(matrix, Panelled) and linear.offset is None and _seen.get() is None:
        return matrix.product_onto(onto, x, norm)
    return onto + project(x, norm, linear)[0]


class Linear(nnx.Module):
    """An affine map, `x @ weight.T + bias`.

    Args:
      inputs: size of the last axis of what comes in.
      outputs: size of the last axis of what goes out.
      bias: whether there is a bias.
      dtype: storage type of the weight; a bias is float32.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool,
        dtype: str,
        rngs: nnx.Rngs | None,
    ):
        self.weight = _normal(rngs, (outputs, inputs), inputs**-0.5, dtype)
        self.scale = _scale(outputs, dtype)
        self.bias = _vector(outputs, 0) if bias else None

    @property
    def matrix(self) -> Matrix:
        """The matrix of this map."""
        return matrix_of(_value(self.weight), _value(self.scale))

    @property
    def offset(self) -> jax.Array | None:
        """What is added to a product, float32 [O], or None."""
        return _array(self.bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        return project(x, None, self)[0]


class Embedding(nnx.Module):
    """A table of vectors, one per token id, which may serve as the output map too.

    Args:
      entries: number of vectors, V.
      width: size of a vector.
      dtype: storage type.
      rngs: where initial weights come from; None for shapes without weights.
      balanced: whether an int8 table holds vectors whose channels were scaled for the
        output map, and `unit` [W], which undoes that for a vector looked up.
    """

    def __init__(
        self,
        entries: int,
        width: int,
        *,
        dtype: str,
        rngs: nnx.Rngs | None,
        balanced: bool = False,
    ):
        self.weight = _normal(rngs, (entries, width), 1.0, dtype)
        self.scale = _scale(entries, dtype)
        self.unit = _scale(width, dtype) if balanced else None

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Return float32 vectors [..., width] of int32 `ids` [...]."""
        found = self.matrix.rows(ids)
        if self.scale is None:
            return found
        if self.unit is not None:
            found = found * over_last(self.unit[...], found)
        # One bit less: a compiler cannot merge the multiplication into a later addition,
        # which it would do for some batch sizes, and their bits would differ.
        return lax.reduce_precision(found, exponent_bits=8, mantissa_bits=22)

    @property
    def matrix(self) -> Matrix:
        """The table, which is the matrix of the output map where it is tied."""
        return matrix_of(_value(self.weight), _value(self.scale))

    @property
    def offset(self) -> None:
        """What is added to a product: nothing."""
        return None


class RMSNorm(nnx.Module):
    """Divide by the root mean square over the last axis, times a learned weight.

    Args:
      size: size of the last axis.
      eps: added to the mean square.

    Reference: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019,
    arXiv 1910.07467.
    """

    def __init__(self, size: int, *, eps: float):
        self.weight = _vector(size, 1)
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.eps)
        return x * scale * over_last(_array(self.weight), x)

    def folded(self) -> dict[str, Any]:
        """Return the weight and eps, for a product that normalises its rows itself."""
        return {"norm": _value(self.weight), "eps": self.eps}


class LayerNorm(nnx.Module):
    """Subtract the mean, divide by the deviation, then a learned weight and bias.

    Args:
      size: size of the last axis.
      eps: added to the variance.

    Reference: Ba et al., Layer Normalization, 2016, arXiv 1607.06450.
    """

    def __init__(self, size: int, *, eps: float):
        self.weight = _vector(size, 1)
        self.bias = _vector(size, 0)
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        unit = centred * lax.rsqrt(variance + self.eps)
        weight, bias = _array(self.weight), _array(self.bias)
        return unit * over_last(weight, x) + over_last(bias, x)

    def folded(self) -> None:
        """Return None: no product normalises its rows like this."""
        return None


@dataclasses.dataclass(frozen=True)
class Gate:
    """Activates rows and multiplies them, before a product.

    Args:
      name: of the activation.
      factors: float32 [..., I].
    """

    name: str
    factors: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return activation(self.name)(x) * self.factors

    def folded(self) -> dict[str, Any] | None:
        """Return both, for a product that gates its rows itself, if it can."""
        if self.name not in GATES:
            return None
        flat = self.factors.reshape(-1, self.factors.shape[-1])
        return {"gate": self.name, "factors": flat}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """Return the elementwise function a checkpoint calls `name`."""
    return {
        "silu": jax.nn.silu,
        "relu": jax.nn.relu,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "gelu_new": jax.nn.gelu,
        "gelu_pytorch_tanh": jax.nn.gelu,
    }[name]


def over_last(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Reshape `vector` to the rank of `like`, along its last axis."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)


def _scale(outputs: int, dtype: str) -> nnx.Param | None:
    return _vector(outputs, 1) if dtype == "int8" else None


def _value(param: nnx.Param | None) -> Any:
    """Return what a parameter holds: in a loop over layers, a `Choice`."""
    return None if param is None else param.get_value()


def _array(param: nnx.Param | None) -> Any:
    """Return a parameter as an array, or None."""
    return resolved(_value(param))


def _vector(size: int, value: float) -> nnx.Param:
    # From numpy: filling an array on the device is a program, and one more per size.
    return nnx.Param(jax.device_put(np.full(size, value, np.float32)))


def _normal(rngs: nnx.Rngs | None, shape: tuple[int, ...], scale: float, dtype: str):
    if rngs is None:
        return nnx.Param(jax.ShapeDtypeStruct(shape, DTYPES[dtype]))
    draw = jax.random.normal(rngs.params(), shape, jnp.float32)
    return nnx.Param((draw * scale).astype(DTYPES[dtype]))
