"""Ctrl-C, told apart by what the interpreter is doing when it comes."""

import signal
import subprocess
import sys
import time

from tests.processes import ends_soon

# In C the main thread ignores signals, as it does in a compilation.
PROGRAM = """
import hashlib, pathlib, sys, threading, time
from jaxdecode.cli import interrupt, main
from jaxdecode.core import beside

def ready():
    print("ready", flush=True)

def in_python():
    ready()
    time.sleep(60)

def in_c():
    ready()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

def tidying_up():
    try:
        in_python()
    finally:
        time.sleep(1.5 * interrupt.GRACE)
        print("tidy", file=sys.stderr)

def beside_a_compiler():
    place = pathlib.Path(sys.argv[2])
    command = ["sh", "-c", f"echo $$ > {place}; exec sleep 100"]
    given = command, 200
    threading.Thread(target=beside.run_beside, args=given, daemon=True).start()
    while not place.is_file() or not place.read_text():
        time.sleep(0.01)
    in_c()  # which is left without the interpreter's clean-up

def work(argv):
    with interrupt.exit_promptly():
        globals()[sys.argv[1]]()

main._run = work
sys.exit(main.main([]))
"""


def interrupted(name, *arguments):
    """Run one of the program's functions, send a Ctrl-C, return how it ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, name, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)  # from here on it is inside the call
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors, time.monotonic() - begun


def test_ctrl_c_ends_a_command_with_130_and_a_clean_line():
    code, errors, _ = interrupted("in_python")
    assert (code, errors) == (130, "\n")


def test_ctrl_c_ends_a_command_that_is_busy_in_c():
    code, errors, seconds = interrupted("in_c")
    assert (code, errors) == (130, "\n")
    assert seconds < 5.0


def test_ctrl_c_leaves_time_to_tidy_up():
    code, errors, _ = interrupted("tidying_up")
    assert (code, errors) == (130, "tidy\n\n")


def test_ctrl_c_ends_the_compiler_that_works_beside_a_command(tmp_path):
    code, errors, _ = interrupted("beside_a_compiler", str(tmp_path / "pid"))
    assert (code, errors) == (130, "\n")
    assert ends_soon(int((tmp_path / "pid").read_text()))


def test_an_interrupt_while_the_process_ends_is_not_told():
    program = (
        "import signal, sys; from jaxdecode.cli import main; sys.argv[1:] = ['-V'];"
        "code = main.main(); signal.raise_signal(signal.SIGINT); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
