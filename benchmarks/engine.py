"""How much does continuous batching bring over batches that wait for their longest row?

Requests of mixed lengths (8 to 512 prompt tokens, 1 to 256 new ones, fixed seed) go
through the engine, through our own static batches in the order of arrival, and through
the peers: Hugging Face's static batches, and llama.cpp with as many sequences, kept full
by the engine's own scheduler. No row ends early, so each does the same work. Programs
are compiled before the clock starts. Also reported: how full the slots were (over the
whole run and until the queue was empty), the time between two tokens of a running row,
and recompilations. Each contender is printed as soon as it has ended.

    python benchmarks/engine.py --requests 1000 --slots 32 --static 320 --hugging-face 128

A batch does not know how many come after it, so a part of the requests is enough for the
static ones: `--static`, `--hugging-face` and `--llama-cpp` say how many of the first ones
each gets. With `--distinct` every request has sampler values of its own.
"""

import argparse
import json
import time

import numpy as np
import peers
from measure import plot_option, report
from models import PRECISIONS, SAMPLER

import jaxdecode as jd
from jaxdecode.core.shapes import bucket
from jaxdecode.engine.scheduling import Scheduler
from jaxdecode.testing import count_compiles
from jaxdecode.weights import resolve


def workload(count, vocab_size, prompt_max, new_max):
    """Return (prompt, new tokens) of each request."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, prompt_max + 1, count)
    budgets = rng.integers(1, new_max + 1, count)
    return [
        (rng.integers(0, vocab_size, n).tolist(), int(b))
        for n, b in zip(lengths, budgets, strict=True)
    ]


def samplers(options):
    """Return what makes the sampler of a request by its number."""
    if not options.distinct:
        usual = jd.joint(**SAMPLER)
        return lambda number: usual
    return lambda number: jd.joint(
        top_k=20 + number,
        top_p=0.85 + 0.1 * number / options.requests,
        temperature=0.6 + 0.4 * number / options.requests,
        frequency_penalty=0.1 * number / options.requests,
    )


def run_engine(lm, requests, options):
    """Return seconds and statistics of the engine."""
    engine = jd.Engine(
        lm,
        slots=options.slots,
        length=options.length,
        chunk=options.chunk,
        prefill=options.prefill,
    )
    sampler_of = samplers(options)
    engine.warm_up(sampler=sampler_of(0), eos_ids=())
    with count_compiles() as compiles:
        begin = time.perf_counter()
        for index, (prompt, budget) in enumerate(requests):
            engine.submit(
                prompt,
                key=index,
                sampler=sampler_of(index),
                max_new_tokens=budget,
                eos_ids=(),
            )
        while engine.step():
            pass
        seconds = time.perf_counter() - begin
    return seconds, {**engine.statistics.summary(), "recompiled": compiles.count}


def run_static(lm, requests, options):
    """Return seconds of our own batches, each as long as its longest row."""
    sampler, longest = jd.joint(**SAMPLER), options.new_max

    def write(batch):
        prompts = [prompt for prompt, _ in batch]
        budgets = [budget for _, budget in batch]
        keys = list(range(len(batch)))
        given = {
            "sampler": sampler,
            "max_new_tokens": budgets,
            "new_tokens_max": longest,
        }
        jd.generate(lm.model, prompts, keys, **given).tokens.block_until_ready()

    return _timed_batches(write, requests, options.slots, warm=True)


def run_hugging_face(requests, options, path):
    """Return seconds of Hugging Face's batches, padded on the left."""
    run = peers.hugging_face(path, PRECISIONS[options.dtype][1])

    def write(batch):
        width = max(len(prompt) for prompt, _ in batch)
        rows = [[0] * (width - len(prompt)) + prompt for prompt, _ in batch]
        run(rows, max(budget for _, budget in batch))

    return _timed_batches(write, requests, options.slots, warm=False)


def _timed_batches(write, requests, size, *, warm):
    batches = [requests[i : i + size] for i in range(0, len(requests), size)]
    if warm:  # each bucket of prompt lengths is a program, and each number of rows
        kinds = {(bucket(max(len(p) for p, _ in b)), len(b)): b for b in batches}
        for batch in kinds.values():
            write([(prompt, 1) for prompt, _ in batch])
    begin = time.perf_counter()
    for batch in batches:
        write(batch)
    return time.perf_counter() - begin


def run_llama_cpp(requests, options, path):
    """Return seconds of llama.cpp with its sequences kept full by our scheduler."""
    kind = PRECISIONS[options.dtype][0]
    run = peers.llama_cpp(path, kind, options.slots, options.length, together=4096)
    loop = run.__self__
    api, memory = loop.api, loop.api.llama_get_memory(loop.context)
    scheduler = Scheduler(options.slots, 1)
    begin = time.perf_counter()
    for number in range(len(requests)):
        scheduler.add(number, "all", 1)
    running = {}  # slot -> [number, last token, position, tokens left]
    while scheduler.is_waiting or running:
        while (number := scheduler.next()) is not None:
            _, slot, _ = scheduler.place(number)
            prompt, budget = requests[number]
            api.llama_memory_seq_rm(memory, slot, -1, -1)
            rows = [(slot, place, token) for place, token in enumerate(prompt)]
            wanted = [False] * (len(prompt) - 1) + [True]
            token = int(loop._decode(rows, wanted)[0])
            running[slot] = [number, token, len(prompt), budget - 1]
        for slot in [slot for slot, row in running.items() if not row[3]]:
            del running[slot]
            scheduler.free("all", slot)
        if not running:
            continue
        rows = [(slot, row[2], row[1]) for slot, row in running.items()]
        tokens = loop._decode(rows, [True] * len(rows))
        for row, token in zip(running.values(), tokens, strict=True):
            row[1], row[2], row[3] = int(token), row[2] + 1, row[3] - 1
    return time.perf_counter() - begin


def contenders(lm, options, path):
    """Return what runs some requests, and how many each gets, by name."""
    return {
        "llama.cpp": (
            lambda some: run_llama_cpp(some, options, path),
            options.llama_cpp,
        ),
        "static batches": (lambda some: run_static(lm, some, options), options.static),
        "Hugging Face": (
            lambda some: run_hugging_face(some, options, path),
            options.hugging_face,
        ),
    }


def row_of(name, seconds, requests, first=None):
    """Return a line of the table; `first` is the engine's."""
    total = sum(budget for _, budget in requests)
    speed = total / seconds
    return {
        "who": name,
        "requests": len(requests),
        "seconds": seconds,
        "tokens_per_second": speed,
        "times_slower": first["tokens_per_second"] / speed if first else 1.0,
    }


def parsed():
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--prefill", type=int, default=4096)
    parser.add_argument("--dtype", choices=list(PRECISIONS), default="bfloat16")
    parser.add_argument("--prompt-max", type=int, default=512)
    parser.add_argument("--new-max", type=int, default=256)
    parser.add_argument(
        "--distinct", action="store_true", help="samplers all different"
    )
    for name in ("static", "hugging-face", "llama-cpp"):
        parser.add_argument(f"--{name}", type=int, help="requests it gets, not all")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-save", action="store_true")
    plot_option(parser)
    options = parser.parse_args()
    options.length = options.prompt_max + options.new_max  # of the longest request
    return options


def main():
    """Run all, print a table and one JSON document."""
    options = parsed()
    kind = {"quantize": "int8"} if options.dtype == "int8" else {"dtype": options.dtype}
    lm = jd.load("smollm2-135m", **kind)
    requests = workload(
        options.requests, lm.model.vocab_size, options.prompt_max, options.new_max
    )
    seconds, statistics = run_engine(lm, requests, options)
    rows, missing = [row_of("engine", seconds, requests)], []
    print(json.dumps({**rows[0], "statistics": statistics}), flush=True)
    for name, (run, count) in contenders(lm, options, resolve("smollm2-135m")).items():
        if options.no_peers and name != "static batches":
            continue
        some = requests[:count]
        try:
            rows.append(row_of(name, run(some), some, rows[0]))
            print(json.dumps(rows[-1]), flush=True)
        except peers.MissingPeer as error:
            missing.append(f"{name}: {error}")
            print(missing[-1], flush=True)
    report(
        "engine",
        rows,
        save=not options.no_save,
        plot=options.plot,
        options={k: v for k, v in vars(options).items() if k != "plot"},
        statistics=statistics,
        missing=missing,
    )


if __name__ == "__main__":
    main()
