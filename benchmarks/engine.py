"""How much does continuous batching bring over batches that wait for their longest row?

Requests of mixed lengths (8 to 512 prompt tokens, 1 to 256 new ones, fixed seed) go
through the engine, through our own static batches in the order of arrival, and through
the peers: Hugging Face's static batches, and llama.cpp with as many sequences, kept full
by the engine's own scheduler. No row ends early, so each does the same work. Programs
are compiled before the clock starts. Also reported: how full the slots were (over the
whole run and until the queue was empty), and the time between two tokens of a running
row.

    python -m benchmarks.engine --requests 1000 --slots 32
"""

import argparse
import time

import numpy as np
import peers
from measure import plot_option, report
from models import PRECISIONS, SAMPLER

import jaxdecode as jd
from jaxdecode.engine.scheduling import Scheduler
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


def run_engine(lm, requests, options):
    """Return seconds and statistics of the engine."""
    engine = jd.Engine(
        lm,
        slots=options.slots,
        length=options.length,
        chunk=options.chunk,
        prefill=4096,
    )
    sampler = jd.joint(**SAMPLER)
    engine.warm_up(sampler=sampler, eos_ids=())
    begin = time.perf_counter()
    for index, (prompt, budget) in enumerate(requests):
        engine.submit(
            prompt, key=index, sampler=sampler, max_new_tokens=budget, eos_ids=()
        )
    full = None
    while engine.step():
        if full is None and not engine.is_waiting:
            full = engine.statistics.occupancy
    seconds = time.perf_counter() - begin
    return seconds, {**engine.statistics.summary(), "occupancy_until_tail": full}


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
    if warm:
        for batch in batches:  # each bucket of prompt lengths is a program
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


def main():
    """Run all, print a table and one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--dtype", choices=list(PRECISIONS), default="bfloat16")
    parser.add_argument("--prompt-max", type=int, default=512)
    parser.add_argument("--new-max", type=int, default=256)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-save", action="store_true")
    plot_option(parser)
    options = parser.parse_args()
    options.length = options.prompt_max + options.new_max  # of the longest request
    kind = {"quantize": "int8"} if options.dtype == "int8" else {"dtype": options.dtype}
    lm = jd.load("smollm2-135m", **kind)
    requests = workload(
        options.requests, lm.model.vocab_size, options.prompt_max, options.new_max
    )
    path = resolve("smollm2-135m")
    total = sum(budget for _, budget in requests)
    seconds, statistics = run_engine(lm, requests, options)
    found, missing = {"engine": seconds}, []
    found["static batches"] = run_static(lm, requests, options)
    others = {"Hugging Face": run_hugging_face, "llama.cpp": run_llama_cpp}
    for name, run in {} if options.no_peers else others.items():
        try:
            found[name] = run(requests, options, path)
        except peers.MissingPeer as error:
            missing.append(f"{name}: {error}")
    rows = [
        {
            "who": name,
            "seconds": taken,
            "tokens_per_second": total / taken,
            "times_slower": taken / found["engine"],
        }
        for name, taken in found.items()
    ]
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
