"""Do memory and speed stay the same over 100 000 short requests?

A tiny model, so that what surrounds it is what is measured: lines are read, checked,
answered and written by `jaxdecode batch`. Every tenth of the way the resident memory and
the requests a second since the last tenth are taken, and the processor
time of a request, which other programs disturb less. Samplers are all different.

    python benchmarks/many.py --requests 100000
"""

import argparse
import json
import pathlib
import random
import resource
import tempfile
import time

from measure import plot_option, report

import jaxdecode as jd
from jaxdecode.engine.batch import Defaults, run_batch
from jaxdecode.models import ModelConfig, build, random_params
from jaxdecode.text import LanguageModel

VOCAB = 97


def model():
    """Return a model that costs next to nothing."""
    config = ModelConfig(
        vocab_size=VOCAB,
        max_length=64,
        width=32,
        mlp_width=32,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
    )
    return LanguageModel(build(config, random_params(config)))


def write_lines(path, count):
    """Write requests of 1 to 12 prompt tokens and 1 to 8 new ones."""
    rng = random.Random(0)
    with path.open("w") as file:
        for number in range(count):
            line = {
                "id": number,
                "prompt": [rng.randrange(VOCAB) for _ in range(rng.randint(1, 12))],
                "max_tokens": rng.randint(1, 8),
                "temperature": 0.5 + number / count,
                "top_p": 0.8 + 0.2 * number / count,
                "tokens": True,
            }
            file.write(json.dumps(line) + "\n")


def resident():
    """Return the megabytes that the process holds now."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def run(source, target, options):
    """Return a row for each tenth of the way, and the summary."""
    engine = jd.Engine(model(), slots=options.slots, length=32, block=16)
    rows, tenth = [], max(options.requests // 10, 1)
    last = [0, time.perf_counter(), time.process_time()]

    def look(summary, engine):
        if summary.answered - last[0] < tenth:
            return
        now, used = time.perf_counter(), time.process_time()
        count = summary.answered - last[0]
        rows.append(
            {
                "requests": summary.answered,
                "requests_per_second": count / (now - last[1]),
                "cpu_ms_per_request": (used - last[2]) / count * 1000,
                "resident_mb": resident(),
                "recompiled": summary.recompiled,
            }
        )
        last[:] = summary.answered, now, used

    defaults = Defaults(ignore_eos=True)
    summary = run_batch(
        engine, str(source), str(target), defaults=defaults, progress=look
    )
    return rows, summary


def main():
    """Run, print a table and one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--no-save", action="store_true")
    plot_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = (pathlib.Path(folder) / name for name in ("in", "out"))
        write_lines(source, options.requests)
        rows, summary = run(source, target, options)
        with target.open("rb") as file:
            lines = sum(1 for _ in file)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    report(
        "many",
        rows,
        save=not options.no_save,
        plot=options.plot,
        options=vars(options),
        lines=lines,
        failed=summary.failed,
        peak_mb=peak,
        slower=rows[-1]["cpu_ms_per_request"] / rows[1]["cpu_ms_per_request"],
        grown_mb=rows[-1]["resident_mb"] - rows[1]["resident_mb"],
    )


if __name__ == "__main__":
    main()
