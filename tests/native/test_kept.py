"""A kept library is loaded only if it is whole and this user's."""

import ctypes
import os
import shutil
import subprocess
import sys

import pytest

from jaxdecode.native import library, why_unavailable
from jaxdecode.native.kept import is_whole, seal
from tests.native.test_library import said_here

needs_kernels = pytest.mark.skipif(bool(why_unavailable()), reason=why_unavailable())


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "kernels.so"
    path.write_bytes(b"\x7fELF" + bytes(range(256)) * 40)
    seal(path)
    return path


def test_a_sealed_library_is_whole(sealed):
    assert is_whole(sealed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:5000],
        lambda data: data[:-57],  # without its seal
        lambda data: data + b"\0",
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: bytes(len(data)),
    ],
)
def test_a_damaged_library_is_not_whole(sealed, damage):
    sealed.write_bytes(damage(sealed.read_bytes()))
    assert not is_whole(sealed)


def test_a_link_to_a_library_is_not_believed(sealed, tmp_path):
    (tmp_path / "link.so").symlink_to(sealed)
    assert not is_whole(tmp_path / "link.so")


def test_a_folder_or_nothing_is_not_a_library(tmp_path):
    (tmp_path / "folder.so").mkdir()
    assert not is_whole(tmp_path / "folder.so")
    assert not is_whole(tmp_path / "absent.so")


def test_a_library_that_everybody_may_write_is_not_believed(sealed):
    sealed.chmod(0o666)
    assert not is_whole(sealed)


def test_a_library_of_another_user_is_not_believed(sealed, monkeypatch):
    stranger = sealed.stat().st_uid + 1
    if os.geteuid() == 0:
        os.chown(sealed, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: stranger)
    assert not is_whole(sealed)


def built_in(monkeypatch, folder, cc):
    """Build what is not kept in a folder, as the first use of a process does."""
    monkeypatch.setenv("JAXDECODE_CACHE", str(folder))
    monkeypatch.setenv("CC", cc)
    made = library._built()
    assert made.stat().st_size > 10_000  # loading less would end this process
    assert ctypes.CDLL(str(made)).jaxdecode_product
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory, quick_cc):
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        built_in(patch, folder, quick_cc)
    return folder


@needs_kernels
@pytest.mark.parametrize(
    "damage",
    [
        *("none", "truncated"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("foreign", "linked")),
    ],
)
def test_a_library_is_built_again_if_it_is_not_believed(
    tmp_path, built, quick_cc, damage, monkeypatch
):
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    (made,) = (tmp_path / "native").glob("kernels-*.so")
    first = made.stat()
    if damage == "truncated":  # loading it would end the process with SIGBUS
        with made.open("r+b") as file:
            file.truncate(4096)
    elif damage == "linked":
        shutil.move(made, tmp_path / "elsewhere.so")
        made.symlink_to(tmp_path / "elsewhere.so")
    elif damage == "foreign" and os.geteuid() == 0:
        os.chown(made, 12345, -1)
    elif damage == "foreign":
        made.chmod(0o666)
    assert built_in(monkeypatch, tmp_path, quick_cc) == made
    assert is_whole(made)
    kept = made.stat().st_ino == first.st_ino
    assert kept == (damage == "none")
    assert list((tmp_path / "native").iterdir()) == [made]


@needs_kernels
def test_the_compiler_may_come_with_a_wrapper_and_arguments(
    tmp_path, quick_cc, monkeypatch
):
    seen = tmp_path / "seen"
    wrapper = tmp_path / "my ccache"
    wrapper.write_text(f'#!/bin/sh\necho "$1" "$2" > "{seen}"\nexec "$@"\n')
    wrapper.chmod(0o755)
    asked = f"'{wrapper}' {quick_cc} -fno-common"
    built_in(monkeypatch, tmp_path / "cache", asked)
    assert seen.read_text() == f"{quick_cc} -fno-common\n"


@pytest.mark.parametrize("asked", ["'cc", "no-such-ccache gcc", "''"])
def test_a_compiler_that_is_none_is_named(tmp_path, asked, monkeypatch):
    said = said_here(monkeypatch, tmp_path, asked)
    assert f"no C compiler found (looked for {asked})" in said


def test_a_compiler_that_makes_nothing_is_no_compiler(tmp_path, monkeypatch):
    (tmp_path / "cc").write_text("#!/bin/sh\nprintf '\\377 error' >&2\nexit 0\n")
    (tmp_path / "cc").chmod(0o755)
    said = said_here(monkeypatch, tmp_path, str(tmp_path / "cc"))
    assert "refused the kernels" in said


def test_the_tail_of_a_library_does_not_hinder_the_loader(tmp_path):
    source = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1])._name)"
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    (tmp_path / "x.c").write_text("int one(void) { return 1; }\n")
    made = tmp_path / "x.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(made), str(tmp_path / "x.c")]
    subprocess.run(command, check=True)
    seal(made)
    done = subprocess.run(
        [sys.executable, "-c", source, str(made)], capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == str(made)
