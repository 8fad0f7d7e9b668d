"""How long until the first token, from the start of the process, and where does it go?

`jaxdecode generate` as a user starts it, until the first byte of text comes out: the
very first run after the download (weights are laid out, kernels and programs compiled),
a new bucket of prompt lengths (the program that reads them is compiled), one that needs
more columns than the last (the program that draws is compiled, too), and warm. Then the
parts of a warm start, in a process that stops the time between them: the interpreter
with what it imports, the model, the first token.

    python benchmarks/starting.py --rounds 5
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np

from jaxdecode.core.cache_folder import VARIABLE
from jaxdecode.weights import resolve

DTYPES = ("float32", "bfloat16", "int8")
SHORT, SENTENCE = "Once upon a time", "Once upon a time there was a king. "
LONGER, LONG = SENTENCE * 4, SENTENCE * 32  # some 40 and 300 tokens
PARTS = """
import json, sys
from jaxdecode.cli import clock, options, runtime
from jaxdecode.cli.parse import parse
runtime.start_jax()
import jax
import jaxdecode as jd
jax.devices()
times = [clock.since_start()]
model = runtime.load_model(options.ModelOptions(dtype=sys.argv[1]))
times.append(clock.since_start())
next(model.stream(sys.argv[2], key=7, max_new_tokens=16, sampler=jd.chain()))
times.append(clock.since_start())
print(json.dumps(times))
"""


def main() -> None:
    """Measure every precision, report and save."""
    options = _options()
    file = Path(resolve("smollm2-135m"))
    rows = []
    for dtype in options.dtypes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"dtype": dtype} | _starts(dtype, file, folder, options.rounds))
    measure.report(
        options.name,
        rows,
        rounds=options.rounds,
        save=not options.no_save,
        plot=options.plot,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="warm starts each")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--no-save", action="store_true")
    parser.add_argument("--name", default="starting", help="of the result that is kept")
    measure.plot_option(parser)
    return parser.parse_args()


def _starts(dtype: str, file: Path, folder: str, rounds: int) -> dict[str, float]:
    """Return seconds to the first token of each kind of start, and its parts."""
    environment = {**os.environ, VARIABLE: folder}
    # As a user has it: without bytecode on disk a start compiles all of our sources.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = {
        "very first run, s": _first_byte(dtype, file, SHORT, environment),
        "new bucket, s": _first_byte(dtype, file, LONGER, environment),
        "more columns, s": _first_byte(dtype, file, LONG, environment),
    }
    warm = [_first_byte(dtype, file, SHORT, environment) for _ in range(rounds)]
    found["warm, s"] = float(np.median(warm))
    _parts(dtype, file, environment)  # its programs are others than the command's
    parts = np.array([_parts(dtype, file, environment) for _ in range(rounds)])
    names = ("imports, s", "model, s", "first token, s")
    return found | dict(zip(names, np.median(parts, axis=0).tolist(), strict=True))


def _first_byte(dtype: str, file: Path, prompt: str, environment: dict) -> float:
    command = [sys.executable, "-m", "jaxdecode", "generate", prompt, "--dtype", dtype]
    command += ["--model", str(file), "--seed", "7", "--max-new-tokens", "16"]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        seconds = time.perf_counter() - begin
        process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return seconds


def _parts(dtype: str, file: Path, environment: dict) -> list[float]:
    program = PARTS.replace("ModelOptions(", f"ModelOptions(name={str(file)!r}, ")
    command = [sys.executable, "-c", program, dtype, SHORT]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, env=environment, text=True, check=True
    )
    times = json.loads(done.stdout.splitlines()[-1])
    return np.diff([0.0, *times]).tolist()


if __name__ == "__main__":
    main()
