"""A model on eight devices writes what it writes on one; what `shard` refuses."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import pytest

import jaxdecode as jd
from tests import cheap, tiny

ROOT = pathlib.Path(__file__).parents[2]
EIGHT = "--xla_force_host_platform_device_count=8"
FOUR = "--xla_force_host_platform_device_count=4"
CASES = (
    "greedy",
    "joint_with_parameters_per_row",
    "rows_that_do_not_divide",
    "pieces_of_a_stream",
    "beams",
    "score",
    "long_rows_by_blocks",
    "every_device_holds_its_part",
    "a_step_has_two_sums_a_layer",
)


@pytest.fixture(scope="module")
def outcomes():
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.sharded"],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": f"{EIGHT} {cheap.FLAGS}",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return _outcomes(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_model_on_two_times_four_devices_does_what_it_does_on_one(case, outcomes):
    assert outcomes[case] == "ok", outcomes[case]


ACROSS = [
    *(f"rows: {case}" for case in CASES),
    *(
        f"layers: {case}"
        for case in ("joint_with_parameters_per_row", "beams", "score")
    ),
]


@pytest.fixture(scope="module")
def of_two_processes():
    """What each of two processes found, on four devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Less is compiled here than users compile: which devices hold what stays the same.
    environment = {
        **os.environ,
        **cheap.PROCESS,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{FOUR} {cheap.FLAGS}",
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.models.processes", str(index), str(port)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        ended = [process.communicate(timeout=600) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (_, err) in zip(running, ended, strict=True):
        assert process.returncode == 0, err[-3000:]
    return [_outcomes(out) for out, _ in ended]


def _outcomes(out):
    """Return the outcome of each case; what libraries print is passed by."""
    lines = [line[line.find('{"case"') :] for line in out.splitlines()]
    lines = [json.loads(line) for line in lines if line.startswith('{"case"')]
    return {line["case"]: line["outcome"] for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("case", ACROSS)
def test_a_model_on_two_processes_does_what_it_does_on_one_device(
    case, of_two_processes
):
    for outcomes in of_two_processes:
        assert outcomes[case] == "ok", outcomes[case]


def mesh():
    return jax.make_mesh((1,), ("rows",))


def test_a_model_on_a_mesh_of_one_device_writes_the_same():
    options = {"sampler": tiny.PLAIN, "max_new_tokens": 4}
    expected = jd.generate(tiny.llama(), [[1, 2, 3]], 0, **options)
    found = jd.generate(
        jd.shard(tiny.llama(), mesh(), data="rows"), [[1, 2, 3]], 0, **options
    )
    assert found.tokens.tolist() == expected.tokens.tolist()


def test_an_axis_that_the_mesh_lacks_is_refused():
    with pytest.raises(
        ValueError, match=r"`tensor` must be an axis of `mesh`.*'model'"
    ):
        jd.shard(tiny.llama(), mesh(), tensor="model")


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(TypeError, match=r"shard: `model` must be a model of this pack"):
        jd.shard(tiny.bag(), mesh())  # type: ignore[arg-type]


def test_heads_that_do_not_divide_are_refused():
    class Wide:  # three devices are not there: only sizes are looked at
        axis_names, shape, devices = ("tensor",), {"tensor": 3}, mesh().devices

    from jaxdecode.models.sharding import Split, _check_heads

    with pytest.raises(ValueError, match=r"key and value heads \(1\), got 3"):
        _check_heads(tiny.llama(), Split(Wide(), None, "tensor"))  # type: ignore[arg-type]
