"""How long does the first call take, and how long with the program kept on disk?

Per precision, the program of `generate` as a user runs it: tracing it in Python,
lowering it to what XLA takes, compiling, and getting it from the persistent cache
instead. Each round begins with nothing compiled; a start from the cache still traces
and lowers. Then prompts of twice the length, as in a process that has written before: it
traces only what depends on the length, and compiles.

    python benchmarks/compile_time.py --rounds 2
"""

import argparse
import tempfile
import time
from typing import Any

import jax
import measure
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from models import PRECISIONS, SAMPLER, model_of

import jaxdecode as jd
from jaxdecode.core import garbage
from jaxdecode.decode import trace
from jaxdecode.measure import random_prompts
from jaxdecode.models import SHAPES

STAGES = ("trace", "lower", "compile", "from the cache")
NEW_BUCKET = ("new bucket: trace and lower", "new bucket: compile")
MEASURED = STAGES + NEW_BUCKET


def main() -> None:
    """Measure every precision and report."""
    options = _options()
    seconds: dict[str, list[dict[str, float]]] = {d: [] for d in options.dtypes}
    size: dict[str, float] = {}
    for _ in range(options.rounds):
        for dtype in options.dtypes:
            found, size[dtype] = _round(options, dtype)
            seconds[dtype].append(found)
    rows = []
    for dtype, rounds in seconds.items():
        medians = {s: float(np.median([one[s] for one in rounds])) for s in MEASURED}
        row = {"dtype": dtype} | {f"{stage}, s": medians[stage] for stage in MEASURED}
        first = sum(medians[stage] for stage in STAGES[:3])
        later = first - medians["compile"] + medians["from the cache"]
        totals = {"first start, s": first, "later start, s": later}
        rows.append(row | totals | {"kept program, MB": size[dtype]})
    sampler = "no-sampler" if options.no_sampler else None
    measure.report(
        "-".join(filter(None, (options.name, options.shape, sampler))),
        rows,
        batch=options.batch,
        context=options.context,
        new_tokens=options.new_tokens,
        rounds=options.rounds,
        save=not options.no_save,
        plot=options.plot,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--shape", choices=list(SHAPES), help="random weights instead")
    parser.add_argument(
        "--no-sampler", action="store_true", help="not the joint one: no links at all"
    )
    parser.add_argument("--no-save", action="store_true")
    parser.add_argument(
        "--name", default="compile_time", help="of the result that is kept"
    )
    measure.plot_option(parser)
    return parser.parse_args()


def _round(options: argparse.Namespace, dtype: str) -> tuple[dict[str, float], float]:
    """Return the seconds of each stage, and the megabytes of the program on disk."""
    model = model_of(options.shape, dtype)
    with tempfile.TemporaryDirectory() as folder:
        compilation_cache.reset_cache()
        kept = jd.enable_compilation_cache(folder)
        jax.clear_caches()
        found = _stages(options, model, options.context)
        size = sum(file.stat().st_size for file in kept.glob("*-cache"))
        jax.clear_caches()
        again = _stages(options, model, options.context)
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
    later = _stages(options, model, 2 * options.context)
    found["from the cache"] = again["compile"]
    new_bucket = later["trace"] + later["lower"], later["compile"]
    return found | dict(zip(NEW_BUCKET, new_bucket, strict=True)), size / 1e6


def _stages(options: argparse.Namespace, model: Any, context: int) -> dict[str, float]:
    prompts = random_prompts(model.vocab_size, options.batch, context)
    sampler = None if options.no_sampler else jd.joint(**SAMPLER)
    times = [time.perf_counter()]
    traced = trace(
        model, prompts, 0, sampler=sampler, max_new_tokens=options.new_tokens
    )
    times.append(time.perf_counter())
    with garbage.not_collected():  # as where programs are kept on disk
        lowered = traced.lower()
    times.append(time.perf_counter())
    lowered.compile()
    times.append(time.perf_counter())
    return dict(zip(STAGES, np.diff(times).tolist(), strict=False))


if __name__ == "__main__":
    main()
