"""`norm(rows) @ matrix.T` by the kernel, for matrices in panels; or of gated rows.

What it means is `_plain` below, but for rounding. The kernel adds in the order of the
inputs, one row like the next: a row's bits do not depend on how many rows there are.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdecode.core.varying import vary_alike, vary_like
from jaxdecode.native.panels import Choice, Panels, resolved, unpack

INT14 = 8191  # what the kernel rounds a row's largest entry to, for int8 matrices
# Activations that the kernel knows, by the name a checkpoint gives them.
GATES = {"silu": 1, "gelu_new": 2, "gelu_pytorch_tanh": 2}
_PLAIN_GATES = {1: jax.nn.silu, 2: jax.nn.gelu}


def panel_products(
    rows: jax.Array,
    matrices: Sequence[Panels | Choice],
    scales: Sequence[jax.Array | Choice | None],
    *,
    norm: jax.Array | Choice | None = None,
    eps: float = 0.0,
    gate: str | None = None,
    factors: jax.Array | None = None,
    onto: jax.Array | None = None,
) -> list[jax.Array]:
    """Return `rows @ matrix.T` in float32 for several matrices of one kind.

    Rows are rounded to bfloat16 for bfloat16 matrices, and to 14 bits with a scale of
    their own for int8 ones. The matrices share one pass over the threads.

    Args:
      rows: float32 [M, I].
      matrices: at most 4, each [O, I]. If one is a `Choice`, all are, and so are
        `scales` and `norm`, with the same number chosen.
      scales: float32 [O] each, by which int8 matrices' outputs are multiplied; None for
        other kinds.
      norm: float32 [I]; rows are first divided by their root mean square and multiplied
        by it. None leaves them as they are.
      eps: added to the mean square, >= 0. Static.
      gate: name of an activation in `GATES`; rows are first activated and multiplied by
        `factors`. None leaves them as they are; no call has a norm as well. Static.
      factors: float32 [M, I].
      onto: float32 [M, O], what the results of one matrix are added to; None is nothing.

    Returns:
      float32 [M, O] each. Differentiable as if nothing was rounded, in `rows`, `norm`,
      `factors`, `onto` and float32 panels.
    """
    chosen = np.int32(0)
    if isinstance(matrices[0], Choice):
        chosen = matrices[0].chosen
    options = [_options(matrix) for matrix in matrices]
    shapes = tuple(alike[0].shape for alike in options)
    words = [tuple(panels.words for panels in alike) for alike in options]
    given = [_options(scale) for scale in scales if scale is not None]
    norms = () if norm is None else _options(norm)
    first = _First(-1.0 if norm is None else eps, GATES[gate] if gate else 0)
    before = norms if factors is None else (factors,)
    after = () if onto is None else (onto,)
    return _products(
        rows, chosen, words, given, before, after, shapes, options[0][0].kind, first
    )


class _First(NamedTuple):
    """What is done to rows first; what it needs are the operands `before`."""

    eps: float  # below 0: they are not normalised
    gate: int  # 0: they are not gated


def _options(value: Any) -> tuple[Any, ...]:
    return value.options if isinstance(value, Choice) else (value,)


@functools.partial(jax.custom_jvp, nondiff_argnums=(6, 7, 8))
def _products(rows, chosen, words, scales, before, after, shapes, kind, first):
    del kind  # the type of the words says it
    results = [jax.ShapeDtypeStruct((rows.shape[0], o), jnp.float32) for o, _ in shapes]
    call = jax.ffi.ffi_call("jaxdecode_product", results, vmap_method="expand_dims")
    alike = [leaf for options in (*words, *scales, before, after) for leaf in options]
    given = vary_alike(rows, chosen, *alike)
    options = {"eps": np.float32(first.eps), "gate": np.int64(first.gate)}
    options["onto"] = np.int64(len(after))
    return list(vary_like(call(*given, **options), given))


@_products.defjvp
def _products_jvp(shapes, kind, first, primals, tangents):
    plain = functools.partial(_plain, shapes=shapes, kind=kind, first=first)
    results = _products(*primals, shapes, kind, first)
    return results, jax.jvp(plain, primals, tangents)[1]


def _plain(rows, chosen, words, scales, before, after, *, shapes, kind, first):
    """Do the same in plain JAX, with rows that are not rounded."""
    if first.gate:
        rows = _PLAIN_GATES[first.gate](rows) * before[0]
    elif before:
        norm = resolved(Choice(before, chosen))
        size = lax.rsqrt(jnp.mean(rows * rows, axis=-1, keepdims=True) + first.eps)
        rows = rows * size * norm[None, :]
    results = []
    for index, (alike, shape) in enumerate(zip(words, shapes, strict=True)):
        word = resolved(Choice(alike, chosen))
        matrix = unpack(Panels(word, shape=shape, kind=kind)).astype(jnp.float32)
        if scales:
            scale = resolved(Choice(scales[index], chosen))
            matrix = matrix * scale[:, None]
        results.append(
            lax.dot_general(
                rows, matrix, (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST
            )
        )
    return [after[0] + y for y in results] if after else results
