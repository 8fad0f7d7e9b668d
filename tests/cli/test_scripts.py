"""`scripts/run` and `scripts/test`, with an interpreter that only notes its orders."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

# Makes an environment by copying itself; an installation is a line in `installed`.
INTERPRETER = """#!/bin/bash
case "$1 $2" in
  "-m venv") echo "$PYTHONSAFEPATH" >"$0.safe"
    mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
  "-m pip") sleep 0.3; echo "${@: -1}" >>installed ;;
  "-c"*) exec {python} "$@" ;;
  *) printf '[%s]' "$@" ;;
esac
"""

pytestmark = pytest.mark.skipif(
    not shutil.which("bash"), reason="the scripts are written for bash"
)


@pytest.fixture
def checkout(tmp_path):
    """Return a checkout in a folder with a space, and an interpreter beside it."""
    root = tmp_path / "a b"
    shutil.copytree(SCRIPTS, root / "scripts")
    (root / "pyproject.toml").write_text("first")
    python = tmp_path / "python"
    python.write_text(INTERPRETER.replace("{python}", sys.executable))
    python.chmod(0o755)
    return root


def begin(root, script, *argv, python=None):
    return subprocess.Popen(
        [root / "scripts" / script, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root.parent,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python or root.parent / "python")},
    )


def run(root, script, *argv, **options):
    process = begin(root, script, *argv, **options)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def installed(root):
    return (root / "installed").read_text().split()


def test_run_installs_once_and_passes_its_arguments_on(checkout):
    _, out, err = run(checkout, "run", "Once upon", "--seed", "1")
    assert out == "[-P][-m][jaxdecode][generate][Once upon][--seed][1]"
    assert "installing" in err
    assert run(checkout, "run", "again")[1:] == (
        "[-P][-m][jaxdecode][generate][again]",
        "",
    )
    assert installed(checkout) == [".[cli]"]


def test_no_module_comes_from_the_current_folder(checkout):
    run(checkout, "run", "a")
    assert (checkout.parent / "python.safe").read_text() == "1\n"


def test_another_pyproject_installs_again(checkout):
    run(checkout, "run", "a")
    (checkout / "pyproject.toml").write_text("second")
    run(checkout, "run", "a")
    assert installed(checkout) == [".[cli]", ".[cli]"]


def test_a_checkout_that_was_moved_installs_again(checkout):
    run(checkout, "run", "a")
    moved = checkout.rename(checkout.parent / "moved")
    run(moved, "run", "a")
    assert installed(moved) == [".[cli]", ".[cli]"]


def test_the_test_environment_serves_run_too(checkout):
    asked = "[-m][pytest][-n][auto][--dist][loadfile][--no-loadscope-reorder]"
    assert run(checkout, "test", "-x")[1] == asked + "[-m][not slow][-x]"
    run(checkout, "run", "a")
    assert installed(checkout) == [".[test]"]


@pytest.mark.skipif(not shutil.which("flock"), reason="the lock needs flock")
def test_two_at_once_install_once(checkout):
    both = [begin(checkout, "run", "a") for _ in range(2)]
    ended = [process.communicate(timeout=30) for process in both]
    assert [out for out, _ in ended] == ["[-P][-m][jaxdecode][generate][a]"] * 2
    assert installed(checkout) == [".[cli]"]


def test_an_interpreter_that_is_too_old_is_refused(checkout, tmp_path):
    old = tmp_path / "old"
    old.write_text(
        '#!/bin/bash\n[[ "$2" == *print* ]] && echo Python 3.9.1 || exit 1\n'
    )
    old.chmod(0o755)
    code, out, err = run(checkout, "run", "a", python=old)
    assert (code, out) == (2, "")
    assert err == (
        f"jaxdecode: PYTHON must name Python 3.11 or newer, got {old} (Python 3.9.1)\n"
    )
    assert not (checkout / ".venv").exists()
