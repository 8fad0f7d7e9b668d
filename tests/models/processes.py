"""What a sharded model writes on the devices of two processes: one of the two.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.models.processes 0 PORT

and the same with 1 in place of 0, at the same time. Each prints a line for each case of
`sharded` where rows lie across the processes, and for some where layers do.
"""

import sys

import jax
import numpy as np

import jaxdecode as jd

COUNT = 2


def meshes():
    """Return the meshes of two by four devices, by which axis lies across processes."""
    devices = np.asarray(jax.devices())  # those of the first process first
    rows = devices.reshape(2, 4)
    layers = devices.reshape(2, 2, 2).transpose(1, 0, 2).reshape(2, 4)
    axes = ("data", "tensor")
    return {
        "rows": jax.sharding.Mesh(rows, axes),
        "layers": jax.sharding.Mesh(layers, axes),
    }


def main(index, port):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", COUNT, index)
    assert (jax.process_count(), jax.local_device_count()) == (COUNT, 4)
    from tests.models import sharded  # asks for devices, so not before

    layers = sharded.joint_with_parameters_per_row, sharded.beams, sharded.score
    cases = {"rows": sharded.CASES, "layers": layers}
    for across, mesh in meshes().items():
        sharded.MANY = jd.shard(sharded.ONE, mesh, data="data", tensor="tensor")
        sharded.report(cases[across], f"{across}: ")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
