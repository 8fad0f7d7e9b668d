"""`rows @ matrix.T` by the kernel, for matrices in panels.

What it means is `unpack(panels)` and a dot product that accumulates in float32. The
kernel adds in the order of the inputs, one row like the next: a row's bits do not
depend on how many rows there are.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxdecode.native.panels import Panels, unpack

MATRICES_MAX = 4  # of one call, as in kernels.c
INT14 = 8191  # what the kernel rounds a row's largest entry to, for int8 matrices


def panel_products(
    rows: jax.Array,
    matrices: Sequence[Panels],
    scales: Sequence[jax.Array | None],
) -> list[jax.Array]:
    """Return `rows @ matrix.T` in float32 for several matrices of one kind.

    Rows are rounded to bfloat16 for bfloat16 matrices, and to 14 bits with a scale of
    their own for int8 ones. The matrices share one pass over the threads.

    Args:
      rows: float32 [M, I].
      matrices: at most 4, each [O, I].
      scales: float32 [O] each, by which int8 matrices' outputs are multiplied; None for
        other kinds.

    Returns:
      float32 [M, O] each. Differentiable in `rows` as if they were not rounded, and in
      float32 panels.
    """
    shapes = tuple(matrix.shape for matrix in matrices)
    words = [matrix.words for matrix in matrices]
    given = [scale for scale in scales if scale is not None]
    return _products(rows, words, given, shapes, matrices[0].kind)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _products(rows, words, scales, shapes, kind):
    if kind == "bfloat16":
        rows = jnp.pad(rows.astype(jnp.bfloat16), ((0, 0), (0, rows.shape[1] % 2)))
    results = [jax.ShapeDtypeStruct((rows.shape[0], o), jnp.float32) for o, _ in shapes]
    call = jax.ffi.ffi_call("jaxdecode_product", results, vmap_method="expand_dims")
    return list(call(rows, *words, *scales))


@_products.defjvp
def _products_jvp(shapes, kind, primals, tangents):
    rows, words, scales = primals
    results = _products(rows, words, scales, shapes, kind)
    matrices = [
        unpack(Panels(w, shape=s, kind=kind)).astype(jnp.float32)
        for w, s in zip(words, shapes, strict=True)
    ]
    if scales:
        matrices = [m * s[:, None] for m, s in zip(matrices, scales, strict=True)]
    slopes = [_dot(tangents[0], matrix) for matrix in matrices]
    if kind == "float32":
        moved = [
            _dot(rows, unpack(Panels(w, shape=s, kind=kind)))
            for w, s in zip(tangents[1], shapes, strict=True)
        ]
        slopes = [a + b for a, b in zip(slopes, moved, strict=True)]
    return results, slopes


def _dot(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    return lax.dot_general(
        rows, matrix, (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST
    )
