"""Several devices write what one writes, under `shard_map` and without a `jit`."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import cheap
from tests.decode import devices

ROOT = pathlib.Path(__file__).parents[2]
FOUR = "--xla_force_host_platform_device_count=4"


def outcomes_of(cases):
    """Run cases in one process, which has four devices."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.decode.devices", *cases],
        cwd=ROOT,
        env={
            **os.environ,
            **cheap.PROCESS,
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": f"{FOUR} {cheap.FLAGS}",
        },
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["case"]: line["outcome"] for line in lines}


@pytest.fixture(scope="module")
def soon():
    return outcomes_of([case for case in devices.CASES if case not in devices.LATER])


@pytest.fixture(scope="module")
def later():
    return outcomes_of(devices.LATER)


@pytest.mark.parametrize("case", [c for c in devices.CASES if c not in devices.LATER])
def test_rows_on_four_devices_get_what_they_get_on_one(case, soon):
    assert soon[case] == "ok", soon[case]


@pytest.mark.slow
@pytest.mark.parametrize("case", devices.LATER)
def test_more_rows_on_four_devices_get_what_they_get_on_one(case, later):
    assert later[case] == "ok", later[case]
