"""What a program is compiled for, as one value: the only place that asks JAX for it.

A public function reads it once and passes it on; it is static in the compiled program.
Code below it never asks which backend runs: it asks this value. Compiling for another
platform means passing another value.
"""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Platform:
    """The choices that differ between backends.

    Attributes:
      kind: "cpu", "gpu" or "tpu".
      dtype: the type in which matrices are stored unless another is asked for.
      steps_per_look: tokens drawn between two looks at whether all rows have ended. On an
        accelerator a look is a round trip to the host; on CPU it costs nothing.
      columns_per_call: most prompt columns that are read in one call of a model.
      tokens_per_call: most prompt tokens, rows times columns, of one call.
      rows_per_group: rows that share a larger window of candidates; few where a row
        costs more than starting a kernel.
      sorts_words: whether it sorts 64-bit integers.
      kernels: whether programs may call the kernels of `jaxdecode.native`.
    """

    kind: str
    dtype: str
    steps_per_look: int
    columns_per_call: int
    tokens_per_call: int
    rows_per_group: int
    sorts_words: bool
    kernels: bool = False


CPU = Platform(
    kind="cpu",
    dtype="float32",
    steps_per_look=1,
    columns_per_call=256,
    tokens_per_call=1024,
    rows_per_group=2,
    sorts_words=True,
)
GPU = Platform(
    kind="gpu",
    dtype="bfloat16",
    steps_per_look=8,
    columns_per_call=2048,
    tokens_per_call=8192,
    rows_per_group=16,
    sorts_words=True,
)
TPU = dataclasses.replace(GPU, kind="tpu", sorts_words=False)  # no 64-bit integers
_BY_KIND = {"cpu": CPU, "gpu": GPU, "tpu": TPU}


def backend() -> Platform:
    """Return the platform of JAX's default backend, without kernels.

    `jaxdecode.native.current_platform` adds whether the kernels can be used.
    """
    return _BY_KIND.get(jax.default_backend(), GPU)
