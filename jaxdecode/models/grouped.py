"""One product of rows with several matrices: each row with the one it was sent to.

Rows come sorted by matrix, so that those of one matrix stand together. Accelerators have
an operation for that (`lax.ragged_dot`). On CPU, where XLA would multiply each row by
every matrix, rows are laid out in blocks, and each block is multiplied by one matrix: a
matrix that no row was sent to is not read.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxdecode.models.matrix import matmul, precision_for

BLOCK_MAX = 64  # rows that are multiplied at once

DIMENSIONS = lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((1,), (2,)), ((), ())),
    lhs_ragged_dimensions=[0],
    rhs_group_dimensions=[0],
)


def grouped_matmul(
    rows: jax.Array,
    weights: jax.Array,
    scales: jax.Array | None,
    counts: jax.Array,
) -> jax.Array:
    """Return each row times the matrix it was sent to, transposed.

    Args:
      rows: float32 [N, I], sorted by matrix; rounded to the type of the weights.
      weights: float32, bfloat16 or int8 [E, O, I].
      scales: float32 [E, O], by which an int8 weight's rows are multiplied, or None.
      counts: int32 [E], how many rows each matrix has; their sum is N.

    Returns:
      float32 [N, O].
    """
    if scales is not None:
        return _by_blocks(rows, weights, scales, counts)
    return lax.platform_dependent(
        rows, weights, counts, cpu=_dense_by_blocks, default=_ragged
    )


def _ragged(rows: jax.Array, weights: jax.Array, counts: jax.Array) -> jax.Array:
    return lax.ragged_dot_general(
        rows.astype(weights.dtype),
        weights,
        counts,
        DIMENSIONS,
        precision=precision_for(weights),
        preferred_element_type=jnp.float32,
    )


def _dense_by_blocks(
    rows: jax.Array, weights: jax.Array, counts: jax.Array
) -> jax.Array:
    return _by_blocks(rows, weights, None, counts)


def _by_blocks(
    rows: jax.Array,
    weights: jax.Array,
    scales: jax.Array | None,
    counts: jax.Array,
) -> jax.Array:
    total, matrices = rows.shape[0], weights.shape[0]
    size = min(BLOCK_MAX, 1 << (total // matrices).bit_length() >> 1 or 1)
    blocks = total // size + (0 if size == 1 else min(matrices, total))
    # A matrix's rows begin a block: the last block of each is filled up with zeros.
    ends = jnp.cumsum(-(-counts // size))  # of each matrix's blocks
    first_row, first_block = jnp.cumsum(counts) - counts, ends + (counts // -size)
    owner = jnp.repeat(
        jnp.arange(matrices, dtype=jnp.int32), counts, total_repeat_length=total
    )
    place = jnp.arange(total, dtype=jnp.int32) - first_row[owner]
    place = place + size * first_block[owner]
    laid_out = jnp.zeros((blocks * size, rows.shape[1]), rows.dtype)
    laid_out = laid_out.at[place].set(rows).reshape(blocks, size, -1)
    number = jnp.arange(blocks, dtype=ends.dtype)
    chosen = jnp.minimum(jnp.searchsorted(ends, number, side="right"), matrices - 1)

    def multiply(block):
        x, matrix = block
        scale = None if scales is None else scales[matrix]
        return matmul(x, weights[matrix], scale)

    found = lax.map(multiply, (laid_out, chosen))
    return found.reshape(blocks * size, -1)[place]
