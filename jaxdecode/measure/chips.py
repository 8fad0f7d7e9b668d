"""Accelerators that need not be there: compile a program for one, from abstract arrays.

XLA's compilers for TPU and CUDA run without a device, given a description of it. Nothing
is run and no weight is in memory. `programs` reads what they made.
"""

import dataclasses
import functools
import importlib.util
import os
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

from jaxdecode.core.platform import CUDA, TPU, Platform

H100 = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32
shared_memory_per_block: 49152 shared_memory_per_core: 233472
threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
device_memory_size: 84978434048 shared_memory_per_block_optin: 232448
cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
registers_per_block_limit: 65536 } platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 } device_description_str: "NVIDIA H100 80GB HBM3"
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """What is known of an accelerator.

    Attributes:
      platform: what programs for it are compiled for.
      lowering: what JAX calls that.
      grids: topologies by number of devices, as the compiler names them.
      target: what the compiler must be told of the device; "" if it knows.
      bytes_per_s: bandwidth of its memory.
      hertz: cycles of the compiler's estimates in a second; 0 if it gives none.
    """

    platform: Platform
    lowering: str
    grids: dict[int, str]
    target: str = ""
    bytes_per_s: float
    hertz: float = 0.0


CHIPS = {
    "v5e": Chip(
        platform=TPU,
        lowering="tpu",
        grids={1: "v5e:2x2", 4: "v5e:2x2", 8: "v5e:2x4"},
        bytes_per_s=819e9,
        hertz=1.5e9,
    ),
    "v6e": Chip(
        platform=TPU,
        lowering="tpu",
        grids={1: "v6e:2x2", 4: "v6e:2x2", 8: "v6e:2x4"},
        bytes_per_s=1640e9,
        hertz=0.94e9,
    ),
    "h100": Chip(
        platform=CUDA,
        lowering="cuda",
        grids={1: "1x1x1", 4: "1x4x1", 8: "1x8x1"},
        target=H100,
        bytes_per_s=3352e9,
    ),
}


def why_no_compiler(chip: str) -> str:
    """Return why programs for a chip cannot be compiled here, or ""."""
    name = "libtpu" if CHIPS[chip].lowering == "tpu" else "jax_plugins.xla_cuda12"
    try:
        there = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        there = False
    return "" if there else f"{name} is not installed (the extra `accelerators`)"


@functools.cache
def devices_of(chip: str, count: int = 1) -> tuple[Any, ...]:
    """Return descriptions of `count` devices, for meshes of programs that never run.

    Raises:
      ImportError: if the chip's compiler is not installed.
      ValueError: for a number of devices that has no grid.
    """
    facts = CHIPS[chip]
    if reason := why_no_compiler(chip):
        raise ImportError(f"devices_of: programs for {chip} need a compiler: {reason}.")
    if count not in facts.grids:
        raise ValueError(
            f"devices_of: `count` must be one of {sorted(facts.grids)} for {chip}, "
            f"got {count}."
        )
    if facts.lowering == "tpu":
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no server to ask
        os.environ.setdefault(
            "ALLOW_MULTIPLE_LIBTPU_LOAD", "1"
        )  # nor a device to share
        grid = topologies.get_topology_desc(
            platform="tpu", topology_name=facts.grids[count]
        )
    else:
        jax.devices()  # which registers the plugins that are installed
        grid = topologies.get_topology_desc(
            platform="cuda",
            topology_name=chip,
            target_config=facts.target,
            topology=facts.grids[count],
        )
    return tuple(grid.devices[:count])


def mesh_of(chip: str, *, data: int = 1, tensor: int = 1) -> jax.sharding.Mesh:
    """Return a mesh of described devices, with the axes "data" and "tensor"."""
    devices = np.array(devices_of(chip, data * tensor)).reshape(data, tensor)
    return jax.sharding.Mesh(devices, ("data", "tensor"))


def placed(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Return a tree of abstract arrays as arrays that every device of a mesh holds."""
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def on_mesh(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)

    return jax.tree.map(on_mesh, tree)


def compiled_for(traced: jax.stages.Traced, chip: str) -> jax.stages.Compiled:
    """Compile a traced program, whose arrays lie on the chip's mesh."""
    facts = CHIPS[chip]
    lowered = traced.lower(lowering_platforms=(facts.lowering,))
    return lowered.compile(compiler_options=dict(facts.platform.compile_options))
