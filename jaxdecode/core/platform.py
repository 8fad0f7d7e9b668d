"""What a program is compiled for, as one value: the only place that asks JAX for it.

A public function reads it once and passes it on; it is static in the compiled program.
Code below it never asks which backend runs: it asks this value. Compiling for another
platform means passing another value.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """How attention reads a long cache: by blocks of columns, none beyond those in use.

    Attributes:
      columns: columns of a block.
      columns_whole: a cache of up to so many columns is read at once by single tokens;
        a loop pays only beyond that.
      scores_max: scores that are held at once, over all rows and heads. Where several
        tokens have no more than that with all columns, these are read at once.
    """

    columns: int
    columns_whole: int
    scores_max: int


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
      gates: whether work that no row wants is skipped by a conditional. It pays where a
        pass over the rows costs more than the code and the question.
      branches_on_device: whether a conditional is decided without asking the host.
      windows: sizes of the windows of candidates that a draw tries before whole rows.
      rows_per_group: with gates, rows that share a larger window of candidates.
      by_chunks: whether the best of a row are looked for by the maxima of its chunks; if
        not, one operation finds them.
      sorts_words: whether XLA sorts rows, as 64-bit integers; if not, a network does,
        which is small to compile.
      reduces_pairs: whether the best score of a window and its token are found by one
        reduction. Two are four kernels to compile for XLA's CPU backend; a TPU's code
        is larger for one.
      words: whether caches hold bfloat16 numbers as 16-bit words, which have no slope.
        XLA's CPU backend converts a whole bfloat16 array to move one row of it; others
        would copy the array for the sake of the words.
      joins: whether matrices that read the same rows are kept as one, for one product.
      compile_options: what the compiler is told, in pairs of a name and a value.
      lanes: heads are stored in caches of several blocks as a multiple of so many
        numbers, filled up with zeros. A TPU's memory has them anyway; but where they are
        not named, XLA lays a cache of small heads the other way round for an inner loop
        or at the door of a program, and copies it.
      blocks: how attention reads long caches; None is all columns at once. Single tokens
        read by blocks only if branches are decided on the device.
      columns_multiple: a cache of more columns than are read whole has a multiple of so
        many. XLA cuts a product along the columns to keep a GPU busy, and would copy the
        cache in each step to fill it up to a multiple of what it cuts.
      stages: numbers of columns; a decode loop that asks the host goes through one
        program after the other, for rows that are up to so long.
      columns_read: a single token attends to no column beyond these many, which is for
        programs of short rows; of a cache that beams share, to none beyond these many
        that they added. None is no limit.
      token_kernel: whether single tokens of short rows are written and attend in one
        kernel, on CUDA. It has no form that an exported program may hold, and XLA's
        partitioner cannot cut it.
      kernels: whether programs may call the kernels of `jaxdecode.native`.
    """

    kind: str
    dtype: str
    steps_per_look: int
    columns_per_call: int
    tokens_per_call: int
    gates: bool
    branches_on_device: bool
    windows: tuple[int, ...]
    rows_per_group: int
    by_chunks: bool
    sorts_words: bool
    words: bool
    joins: bool
    compile_options: tuple[tuple[str, str | bool], ...] = ()
    lanes: int = 1
    blocks: Blocks | None = None
    columns_multiple: int = 1
    stages: tuple[int, ...] = ()
    columns_read: int | None = None
    token_kernel: bool = False
    kernels: bool = False
    reduces_pairs: bool = False

    def with_slopes(self) -> "Platform":
        """Return the same platform with storage that can be differentiated."""
        return dataclasses.replace(self, words=False)

    def for_rows_up_to(self, columns: int) -> "Platform":
        """Return the same platform for a program of rows of at most `columns` tokens."""
        return dataclasses.replace(self, columns_read=columns)


CPU = Platform(
    kind="cpu",
    dtype="float32",
    steps_per_look=1,
    columns_per_call=256,
    tokens_per_call=1024,
    gates=True,
    branches_on_device=True,
    windows=(64, 1024),
    rows_per_group=2,
    by_chunks=True,
    sorts_words=True,
    words=True,
    joins=False,
    reduces_pairs=True,
)
GPU = Platform(
    kind="gpu",
    dtype="bfloat16",
    steps_per_look=8,
    columns_per_call=2048,
    # What these tokens take beside weights and cache grows with their number. Beyond 295
    # the arithmetic takes longer than reading the weights (H100: 989e12 operations and
    # 3.35e12 bytes a second), which it hides.
    tokens_per_call=512,
    gates=False,
    branches_on_device=False,
    windows=(256,),
    rows_per_group=0,
    by_chunks=True,
    sorts_words=False,
    words=False,
    joins=True,
    blocks=Blocks(columns=512, columns_whole=1024, scores_max=2**24),
    columns_multiple=256,
    stages=(1024, 4096, 16384),
)
# With a kernel that programs for this process's own device have once it is proven there:
# see `native/proven.py`.
CUDA = dataclasses.replace(GPU, token_kernel=True)
# Operations that are alike, such as those of two layers, share their code: a program of
# sixteen layers is a quarter as large, and by the compiler's estimate no slower. They are
# alike only where their operands lie in the same memories, so no weights are fetched much
# longer ahead than the fetching takes: the long products of a prompt then read theirs
# where they lie, and a step's, which are short, still find theirs fetched. Products whose
# code would be unrolled several times for the last few percent are content with 93 %.
TPU = dataclasses.replace(
    GPU,
    kind="tpu",
    tokens_per_call=2048,  # a few hundred hide what reading the weights takes
    branches_on_device=True,
    by_chunks=False,
    compile_options=(
        ("xla_tpu_enable_deduplicated_calls", "true"),
        ("xla_vf_vmem_max_overlap_to_mem_size_async_copy_ratio", "2"),
        ("xla_jf_convolution_performance_target", "0.93"),
    ),
    columns_multiple=1,
    stages=(),
    lanes=128,
)
_BY_KIND = {"cpu": CPU, "gpu": GPU, "tpu": TPU}


def backend() -> Platform:
    """Return the platform of JAX's default backend, without kernels.

    `jaxdecode.native.current_platform` adds which kernels can be used.
    """
    return _BY_KIND.get(jax.default_backend(), GPU)


def known_options() -> dict[str, str | bool]:
    """Return those compile options of JAX's default backend that its compiler knows.

    Names of options belong to a version of a compiler: one that it does not know would
    stop every program.
    """
    return dict(filter(_is_known, backend().compile_options))


@functools.cache
def _is_known(option: tuple[str, str | bool]) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=dict([option])).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def lowered_for(
    kinds: tuple[str, ...],
    trick: Callable[..., Any],
    plain: Callable[..., Any],
    *args: Any,
):
    """Return `trick(*args)` in a program for some platforms, `plain(*args)` in others.

    For ways around a weakness of a backend that change no shape and no storage: the
    choice is made when a program is lowered, by a constant that XLA removes, so that one
    model can be exported for several platforms.

    Args:
      kinds: the platforms of the trick, as JAX calls them: "cpu", "tpu", "cuda".
      trick: the way around.
      plain: what it does, written plainly.
      *args: what both are given.
    """
    tricks = dict.fromkeys(kinds, trick)
    return jax.lax.platform_dependent(*args, **tricks, default=plain)
