"""`norm(rows) @ matrix.T` by the kernel, for matrices in panels.

What it means is `_plain` below, but for rounding. The kernel adds in the order of the
inputs, one row like the next: a row's bits do not depend on how many rows there are.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdecode.core.varying import vary_alike, vary_like
from jaxdecode.native.panels import Choice, Panels, resolved, unpack

INT14 = 8191  # what the kernel rounds a row's largest entry to, for int8 matrices


def panel_products(
    rows: jax.Array,
    matrices: Sequence[Panels | Choice],
    scales: Sequence[jax.Array | Choice | None],
    *,
    norm: jax.Array | Choice | None = None,
    eps: float = 0.0,
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

    Returns:
      float32 [M, O] each. Differentiable as if nothing was rounded, in `rows`, `norm`
      and float32 panels.
    """
    first = matrices[0]
    chosen = first.chosen if isinstance(first, Choice) else np.int32(0)
    options = [_options(matrix) for matrix in matrices]
    shapes = tuple(alike[0].shape for alike in options)
    words = [tuple(panels.words for panels in alike) for alike in options]
    given = [_options(scale) for scale in scales if scale is not None]
    norms = () if norm is None else _options(norm)
    eps = -1.0 if norm is None else eps
    return _products(rows, chosen, words, given, norms, shapes, options[0][0].kind, eps)


def _options(value: Any) -> tuple[Any, ...]:
    return value.options if isinstance(value, Choice) else (value,)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6, 7))
def _products(rows, chosen, words, scales, norms, shapes, kind, eps):
    del kind  # the type of the words says it
    results = [jax.ShapeDtypeStruct((rows.shape[0], o), jnp.float32) for o, _ in shapes]
    call = jax.ffi.ffi_call("jaxdecode_product", results, vmap_method="expand_dims")
    alike = [leaf for options in (*words, *scales, norms) for leaf in options]
    given = vary_alike(rows, chosen, *alike)
    return list(vary_like(call(*given, eps=np.float32(eps)), given))


@_products.defjvp
def _products_jvp(shapes, kind, eps, primals, tangents):
    plain = functools.partial(_plain, shapes=shapes, kind=kind, eps=eps)
    results = _products(*primals, shapes, kind, eps)
    return results, jax.jvp(plain, primals, tangents)[1]


def _plain(rows, chosen, words, scales, norms, *, shapes, kind, eps):
    """Do the same in plain JAX, with rows that are not rounded."""
    if norms:
        norm = resolved(Choice(norms, chosen))
        size = lax.rsqrt(jnp.mean(rows * rows, axis=-1, keepdims=True) + eps)
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
    return results
