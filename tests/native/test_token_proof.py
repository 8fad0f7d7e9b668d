"""The kernel for single tokens is tried on a device before a program there uses it.

Without a GPU the kernel is interpreted, and a script stands for the other process.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxdecode.core.platform import CPU, CUDA, GPU
from jaxdecode.models.token_attention import HEAD_SIZES
from jaxdecode.native import current_platform, library, proven, token_kernel
from jaxdecode.native.proven import OPENED, PROVEN, why_unproven
from jaxdecode.native.token_kernel import attend_and_write
from jaxdecode.native.token_proof import CASES, why_wrong

SMALL = min(CASES, key=lambda case: case.size)
OPEN = f"import os, sys, time; print({OPENED!r}, flush=True)"
RIGHT = f"{OPEN}; print({PROVEN!r})"


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case.window else pytest.mark.slow)
        for case in CASES
    ],
)
def test_the_kernel_is_right(case):
    assert why_wrong(case, copies=1, interpret=True) == ""


def test_every_size_of_a_head_that_models_have_it_for_is_tried():
    assert {case.size for case in CASES} == set(HEAD_SIZES)


def spoiled_mix(mixed, keys, values):
    return mixed * 1.1, keys, values


def no_number(mixed, keys, values):
    return mixed.at[2, 1, 3].set(jnp.nan), keys, values


def one_column_too_many(mixed, keys, values):
    return mixed, keys.at[4, 0, -1].set(0), values


def nothing_written(mixed, keys, values):
    return mixed, keys, values.at[0, 0, 0].set(0)


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (spoiled_mix, "mix"),
        (no_number, "mix"),
        (one_column_too_many, "keys"),
        (nothing_written, "values"),
    ],
)
def test_wrong_numbers_are_seen(spoil, where, monkeypatch):
    def kernel(*args, **options):
        return spoil(*attend_and_write(*args, **options))

    monkeypatch.setattr(token_kernel, "attend_and_write", kernel)
    found = why_wrong(SMALL, copies=1, interpret=True)
    assert found.startswith(f"wrong numbers in the {where} of Case(")


def test_the_other_process_says_what_kept_the_kernel_from_running():
    command = [sys.executable, "-m", proven.PROOF[-1]]
    kind = jax.devices("cpu")[0].device_kind
    done = subprocess.run(
        [*command, kind],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == OPENED
    assert second.startswith("ValueError: Only interpret mode is supported on CPU")


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """Return what says whether the kernel is used, given the other process's script."""
    monkeypatch.setenv("JAXDECODE_CACHE", str(tmp_path / "new" / "cache"))
    monkeypatch.setattr(proven, "SECONDS_MAX", 5)

    def why(script, version="PJRT C API\ncuda 12090", kind="a GPU", devices=1):
        client = SimpleNamespace(platform_version=version)
        device = SimpleNamespace(client=client, device_kind=kind)
        monkeypatch.setattr(jax, "devices", lambda: [device] * devices)
        monkeypatch.setattr(proven, "PROOF", (sys.executable, "-c", script))
        proven._why_unproven_on.cache_clear()  # as in another process
        return why_unproven()

    return why


def test_a_proven_kernel_is_used_and_tried_only_once(tried):
    assert tried(RIGHT) == ""
    assert tried("raise SystemExit(1)") == ""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"{OPEN}; print('wrong numbers')", "wrong numbers"),
        (
            f"{OPEN}; os.kill(os.getpid(), 11)",
            "its proof ended with code -11: no reason",
        ),
        (f"{RIGHT}; sys.exit('torn')", "its proof ended with code 1: torn"),
        (OPEN, OPENED),  # and no verdict
    ],
)
def test_a_kernel_that_fails_is_not_used_nor_tried_again(tried, script, reason):
    assert tried(script) == reason
    assert tried(RIGHT) == reason


def test_a_kernel_that_hangs_is_not_used_nor_tried_again(tried, monkeypatch):
    monkeypatch.setattr(proven, "SECONDS_MAX", 1)
    assert tried(f"{OPEN}; time.sleep(60)") == "its proof took over 1 s"
    assert tried(RIGHT) == "its proof took over 1 s"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit('busy')", "its proof could not open the device: busy"),
        (f"{OPEN}; print('RESOURCE_EXHAUSTED: full')", "RESOURCE_EXHAUSTED: full"),
    ],
)
def test_a_device_that_was_busy_is_asked_again(tried, script, reason):
    assert tried(script) == reason
    assert tried(RIGHT) == ""


def test_another_device_or_version_is_tried_anew(tried):
    assert tried(f"{OPEN}; print('wrong')") == "wrong"
    assert tried(RIGHT, kind="another GPU") == ""
    assert tried(RIGHT, version="cuda 13010") == ""


def test_a_damaged_verdict_is_not_believed(tried, tmp_path):
    assert tried(RIGHT) == ""
    (kept,) = (tmp_path / "new" / "cache" / "verdicts").iterdir()
    kept.write_bytes(kept.read_bytes() + b"x")
    assert tried(f"{OPEN}; print('wrong')") == "wrong"


def test_no_other_platform_and_no_group_of_devices_is_tried(tried):
    assert tried(RIGHT, version="rocm 6") == (
        "the kernel is for CUDA, and this is rocm 6"
    )
    assert tried(RIGHT, devices=2).startswith("it is for one GPU, and there are more")


def test_a_process_takes_the_platform_that_its_device_has_proven(monkeypatch):
    monkeypatch.setattr(library, "backend", lambda: GPU)
    monkeypatch.setattr(library, "why_unproven", lambda: "")
    assert current_platform() == CUDA
    monkeypatch.setenv(library.VARIABLE, "off")
    assert library.why_no_token_kernel() == "JAXDECODE_NATIVE is off"
    assert current_platform() == GPU
    monkeypatch.delenv(library.VARIABLE)
    monkeypatch.setattr(library, "why_unproven", lambda: "wrong numbers")
    assert library.why_no_token_kernel() == "wrong numbers"
    assert current_platform() == GPU
    monkeypatch.setattr(library, "backend", lambda: CPU)
    assert library.why_no_token_kernel() == "the default backend is cpu"
