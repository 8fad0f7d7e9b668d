"""`generate` as bytes: a program for other machines, which need neither model nor us."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.extras import needs
from jaxdecode.core.platform import CPU, GPU
from jaxdecode.core.protocol import Model
from jaxdecode.decode.generation import generate_for
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.request import Options, count_of
from jaxdecode.native import Panels, unpacked

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(
    model: Model,
    *,
    rows: int,
    prompt_columns: int,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    **options: Unpack[Options],
) -> bytes:
    """Return `generate` for a number of prompts, compiled elsewhere from bytes.

    A process with jax and flatbuffers runs it:

        run = jax.export.deserialize(data).call
        out = run(weights, tokens, lengths, seed)

    `weights` are `exported_weights(model)`, a list of arrays; `tokens` int32 [rows,
    prompt_columns], padded on the right, `lengths` int32 [rows] and `seed` uint32. The
    result is a dict with the `tokens`, `lengths`, `model_logprobs`, `sampling_logprobs`
    and `status` of a `Generation`: those of `generate(model, (tokens, lengths), seed)`,
    up to the rounding of another platform. The sampler's parameters are part of it.

    Args:
      model: as in `generate`, a pytree of arrays; its weights are not in the bytes.
      rows: number of prompts, >= 1.
      prompt_columns: columns of `tokens`, >= 1.
      platforms: "cpu", "cuda", "rocm" or "tpu", one or several. Kernels are left out.
      **options: as in `generate`; nothing may be traced.

    Raises:
      ImportError: without the package flatbuffers (the extra `export`).
      TypeError: for arguments of the wrong kind.
      ValueError: for a platform of another name, and as `generate`.
    """
    with needs("export"):
        import flatbuffers  # noqa: F401
    check_model("export", model)
    rows = count_of("export", "rows", rows)
    columns = count_of("export", "prompt_columns", prompt_columns)
    for name in platforms:
        check.choice("export", "platforms", name, PLATFORMS)
    # Every platform's storage is right on every other; none of them asks for kernels.
    platform = CPU if tuple(platforms) == ("cpu",) else GPU
    leaves, treedef = jax.tree.flatten(_plain(model))

    def run(weights, tokens, lengths, seed):
        given = jax.tree.unflatten(treedef, weights), (tokens, lengths)
        out = generate_for(platform, *given, jax.random.key(seed), **options)
        names = ("tokens", "lengths", "model_logprobs", "sampling_logprobs", "status")
        return {name: getattr(out, name) for name in names}

    def of(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

    prompts = jax.ShapeDtypeStruct((rows, columns), np.int32)
    lengths = jax.ShapeDtypeStruct((rows,), np.int32)
    seed = jax.ShapeDtypeStruct((), np.uint32)
    program = jax.export.export(jax.jit(run), platforms=tuple(platforms))
    return bytes(program([*map(of, leaves)], prompts, lengths, seed).serialize())


def exported_weights(model: Model) -> list[jax.Array]:
    """Return the arrays that an exported program of `model` takes, in its order.

    Matrices are plain [outputs, inputs], whatever layout the model keeps them in.
    """
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(_plain(model))]


def _plain(model: Any) -> Any:
    """Return the model without the layout of the kernels, which are for CPU only."""
    return jax.tree.map(unpacked, model, is_leaf=lambda leaf: isinstance(leaf, Panels))
