"""The parts every block is made of: linear maps, an embedding table, norms.

Each layer takes and returns float32; only the operands of a product are rounded to the
storage type, and products accumulate in float32. Weights are [out, in] and contracted
over the last axis of both sides, as the checkpoints store them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxdecode.cache import from_bits, to_bits
from jaxdecode.models.quantize import join_rows, split_rows
from jaxdecode.native import Panels, look_up, panel_products

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "int8": jnp.int8}
CACHE_DTYPE = {"float32": "float32", "bfloat16": "bfloat16", "int8": "bfloat16"}


def product(
    rows: jax.Array, weight: jax.Array, scale: jax.Array | None = None
) -> jax.Array:
    """Return `rows @ weight.T` in float32, `rows` rounded to the type of `weight`.

    Args:
      rows: float32 [..., I].
      weight: float32, bfloat16 or int8 [O, I].
      scale: float32 [O], by which an int8 weight's rows are multiplied.

    Returns:
      float32 [..., O].
    """
    flat = rows.reshape(-1, rows.shape[-1])
    count = flat.shape[0]
    if scale is None:
        result = _dot(pad_lone(flat.astype(weight.dtype), axis=0), weight)[:count]
    else:
        digits, row_scale = split_rows(flat)
        sums = _dot(digits, weight).astype(jnp.float32)
        result = join_rows(sums, row_scale) * scale[None, :]
    return result.reshape(*rows.shape[:-1], weight.shape[0])


def _dot(rows: jax.Array, weight: jax.Array) -> jax.Array:
    exact = weight.dtype == jnp.int8
    return lax.dot_general(
        rows,
        weight,
        (((1,), (1,)), ((), ())),
        precision=precision_for(weight),
        preferred_element_type=jnp.int32 if exact else jnp.float32,
    )


def batched_product(
    rows_BKMX: jax.Array, stored: jax.Array, *, contract: int
) -> jax.Array:
    """Contract the last axis of the rows with axis `contract` of a cache array.

    Args:
      rows_BKMX: float32, rounded to the type of `stored`.
      stored: float32 or bfloat16 [B, K, T, D].
      contract: 3 for keys, 2 for values.

    Returns:
      float32 [B, K, M, T] or [B, K, M, D].
    """
    count = rows_BKMX.shape[2]
    result = lax.dot_general(
        pad_lone(rows_BKMX.astype(stored.dtype), axis=2),
        stored,
        (((3,), (contract,)), ((0, 1), (0, 1))),
        precision=precision_for(stored),
        preferred_element_type=jnp.float32,
    )
    return result[:, :, :count]


def precision_for(operand: jax.Array) -> lax.Precision:
    """Return what a product must ask for: GPU and TPU round float32 by default."""
    exact = operand.dtype == jnp.float32
    return lax.Precision.HIGHEST if exact else lax.Precision.DEFAULT


def pad_lone(operand: jax.Array, *, axis: int) -> jax.Array:
    """Repeat a lone bfloat16 row, so that a product has two.

    On CPU a product with one row is a single-threaded routine that first converts the
    whole other side to float32: 39 ms against 3.1 for [1, 576] x [49152, 576].
    """
    if operand.dtype != jnp.bfloat16 or operand.shape[axis] != 1:
        return operand
    return jnp.concatenate([operand, operand], axis)


class Stored(NamedTuple):
    """The arrays of an affine map; a scale where they are int8, a bias or None."""

    weight: Any  # an array, or Panels
    scale: jax.Array | None
    bias: jax.Array | None

    @property
    def is_native(self) -> bool:
        """Whether the weight is laid out for the kernels of `jaxdecode.native`."""
        return isinstance(self.weight, Panels)


def project(
    x: jax.Array,
    norm: "RMSNorm | LayerNorm | None",
    *maps: "Linear | Embedding",
) -> list[jax.Array]:
    """Return what each map makes of `norm(x)`, in one call where a kernel can.

    Args:
      x: float32 [..., I].
      norm: what normalises `x` first; None is nothing.
      *maps: affine maps of the same inputs.

    Returns:
      float32 [..., O] each.
    """
    kept = [m.stored for m in maps]
    if norm is not None and not (kept[0].is_native and isinstance(norm, RMSNorm)):
        x, norm = norm(x), None
    if kept[0].is_native:
        results = panel_products(
            x.reshape(-1, x.shape[-1]),
            [k.weight for k in kept],
            [k.scale for k in kept],
            norm=None if norm is None else norm.weight[...],
            eps=0.0 if norm is None else norm.eps,
        )
    else:
        results = [product(x, k.weight, k.scale) for k in kept]
    shaped = [y.reshape(*x.shape[:-1], -1) for y in results]
    return [
        y if k.bias is None else y + over_last(k.bias, y)
        for y, k in zip(shaped, kept, strict=True)
    ]


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
        self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32)) if bias else None

    @property
    def stored(self) -> "Stored":
        """What a product needs of this map."""
        return Stored(_value(self.weight), _value(self.scale), _value(self.bias))

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
        found = self._rows(ids)
        if self.scale is None:
            return found
        found = found * self.scale[...][ids][..., None]
        if self.unit is not None:
            found = found * over_last(self.unit[...], found)
        # One bit less: a compiler cannot merge the multiplication into a later addition,
        # which it would do for some batch sizes, and their bits would differ.
        return lax.reduce_precision(found, exponent_bits=8, mantissa_bits=22)

    def _rows(self, ids: jax.Array) -> jax.Array:
        table = _value(self.weight)
        if isinstance(table, Panels):
            return look_up(table, ids).astype(jnp.float32)
        if table.dtype == jnp.bfloat16:
            # By words: a bfloat16 gather would convert the whole table on CPU. The
            # barrier ties the table to the ids, else a loop keeps a copy of the words.
            table, ids = lax.optimization_barrier((table, ids))
            return from_bits(to_bits(table)[ids]).astype(jnp.float32)
        return table[ids].astype(jnp.float32)

    @property
    def stored(self) -> "Stored":
        """What a product with every vector needs of this table."""
        return Stored(_value(self.weight), _value(self.scale), None)


class RMSNorm(nnx.Module):
    """Divide by the root mean square over the last axis, times a learned weight.

    Args:
      size: size of the last axis.
      eps: added to the mean square.

    Reference: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019,
    arXiv 1910.07467.
    """

    def __init__(self, size: int, *, eps: float):
        self.weight = nnx.Param(jnp.ones((size,), jnp.float32))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.eps)
        return x * scale * over_last(self.weight[...], x)


class LayerNorm(nnx.Module):
    """Subtract the mean, divide by the deviation, then a learned weight and bias.

    Args:
      size: size of the last axis.
      eps: added to the variance.

    Reference: Ba et al., Layer Normalization, 2016, arXiv 1607.06450.
    """

    def __init__(self, size: int, *, eps: float):
        self.weight = nnx.Param(jnp.ones((size,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((size,), jnp.float32))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        unit = centred * lax.rsqrt(variance + self.eps)
        return unit * over_last(self.weight[...], x) + over_last(self.bias[...], x)


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


def take_column(hidden: jax.Array, at: jax.Array) -> jax.Array:
    """Return column at[b] of each row of `hidden` [B, S, W]: [B, W]."""
    if hidden.shape[1] == 1:
        return hidden[:, 0]
    return jax.vmap(lambda row, i: row[i])(hidden, at)


def _scale(outputs: int, dtype: str) -> nnx.Param | None:
    return nnx.Param(jnp.ones((outputs,), jnp.float32)) if dtype == "int8" else None


def _value(param: nnx.Param | None) -> Any:
    return None if param is None else param.get_value()


def _normal(rngs: nnx.Rngs | None, shape: tuple[int, ...], scale: float, dtype: str):
    if rngs is None:
        return nnx.Param(jax.ShapeDtypeStruct(shape, DTYPES[dtype]))
    draw = jax.random.normal(rngs.params(), shape, jnp.float32)
    return nnx.Param((draw * scale).astype(DTYPES[dtype]))
