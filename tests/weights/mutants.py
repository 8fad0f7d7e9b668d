"""Damage files at random and read them: every one is accepted or refused in good order.

A mutant is made of a small valid file, its number and a seed. It must not crash the
process, hang, take much memory, or raise anything but the errors that the readers
document. Run it by hand, any number of mutants of one kind:

    python -m tests.weights.mutants gguf --count 5000 --seed 1

Several kinds, with commas between them, take turns.
A child process reads the mutants, so that a crash or a hang is one line of the report and
the next mutant gets a new child. The last line is one JSON document.
"""

import argparse
import faulthandler
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

SECONDS_MAX = 5.0
MEMORY_MAX = 500 * 2**20
ADDRESSES_MAX = 6 * 2**30  # XLA reserves much and uses little


def read_mutants(kinds: list[str], seed: int, start: int, stop: int) -> None:
    """Read mutants in this process; print a line before and after each of them."""
    from tests.weights.mutant_kinds import KINDS

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_MAX, ADDRESSES_MAX))
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["JAXDECODE_CACHE"] = str(Path(place) / "cache")
        folders = [Path(place) / kind for kind in kinds]
        for folder in folders:
            folder.mkdir()
        cases = [KINDS[folder.name](folder) for folder in folders]
        for case in cases:
            case.read_whole()  # what is not damaged is accepted
        for number in range(start, stop):
            print(json.dumps({"at": number}), flush=True)
            case = cases[number % len(cases)]
            case.damage(random.Random(f"{seed} {number}"))
            faulthandler.dump_traceback_later(2 * SECONDS_MAX, exit=True)
            begin = time.perf_counter()
            verdict, fault = _verdict(case)
            taken = time.perf_counter() - begin
            faulthandler.cancel_dump_traceback_later()
            if taken > SECONDS_MAX:
                fault = f"took {taken:.1f} s"
            print(json.dumps({"verdict": verdict, "fault": fault}), flush=True)
    print(json.dumps({"memory": peak_memory()}), flush=True)


def _verdict(case) -> tuple[str, str]:
    try:
        case.read()
    except case.documented:
        return "refused", ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a Rust panic is no Exception
        return "refused", f"{type(error).__name__}: {error}"[:300]
    return "accepted", ""


def peak_memory() -> int:
    """Return the most bytes of memory that this program has had at once.

    Not `ru_maxrss`: on Linux a child begins with the peak of the process that starts it,
    so that a large parent would be taken for a mutant that needs much.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run(kind: str, count: int, seed: int, start: int = 0) -> dict:
    """Read mutants in child processes and return the report."""
    report = {"kind": kind, "seed": seed, "count": count, "accepted": 0, "refused": 0}
    report |= {"memory": 0, "faults": []}
    at, stop = start, start + count
    while at < stop:
        at = _child(kind, seed, at, stop, report) + 1
    if report["memory"] > MEMORY_MAX:
        report["faults"].append(f"memory: {report['memory'] / 2**20:.0f} MB")
    return report


def _child(kind: str, seed: int, start: int, stop: int, report: dict) -> int:
    """Run one child; return the last mutant that it finished or died of."""
    names = [kind, "--seed", str(seed), "--start", str(start), "--count"]
    command = [sys.executable, "-m", "tests.weights.mutants", *names]
    child = subprocess.Popen(
        [*command, str(stop - start), "--child"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    output, errors = child.communicate()
    at = start - 1
    lines = [json.loads(line) for line in output.splitlines() if line[:1] == "{"]
    for line in lines:
        at = line.get("at", at)
        report["memory"] = max(report["memory"], line.get("memory", 0))
        if "verdict" in line:
            report[line["verdict"]] += 1
            if line["fault"]:
                report["faults"].append(f"{at}: {line['fault']}")
    if child.returncode:
        if at < start:
            raise RuntimeError(f"the child does not start: {errors[-2000:]}")
        died = "hung or crashed" if child.returncode > 0 else "was killed"
        report["faults"].append(f"{at}: {died} ({child.returncode}): {errors[-600:]}")
        return at
    return stop


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", help="names in mutant_kinds.KINDS, with commas")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        read_mutants(
            args.kind.split(","), args.seed, args.start, args.start + args.count
        )
        return 0
    report = run(args.kind, args.count, args.seed, args.start)
    print(json.dumps(report, indent=1) if report["faults"] else json.dumps(report))
    return bool(report["faults"])


if __name__ == "__main__":
    sys.exit(main())
