"""How long until the first token, how many prompt tokens a second, and at what memory?

A whole call of `generate` for one token, beside the reading alone in chunks and in one
piece, and beside Hugging Face on torch and llama.cpp (greedy) on the very same weights,
interleaved. The temporaries are the compiler's own account of the reading alone: beside
weights and cache, what a run needs while it reads. Above a load of the number of cores,
which is part of the output, a ratio to a peer is not a result.

    python benchmarks/prefill.py --lengths 16 128 512 2048 --rounds 5
"""

import argparse
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import measure
import peers
from models import PRECISIONS, SAMPLER, model_of

import jaxdecode as jd
from jaxdecode.decode.prefilling import prefill
from jaxdecode.decode.prompts import Prompts, as_prompts
from jaxdecode.measure import random_prompts
from jaxdecode.models import SHAPES
from jaxdecode.weights import resolve

NEW_COLUMNS = 16


def main() -> None:
    """Measure every wanted length and report."""
    options = _options()
    rows, before = [], os.getloadavg()[0]
    for dtype in options.dtypes:
        for length in options.lengths:
            rows += _measure(options, dtype, length)
    measure.report(
        "prefill" if options.shape is None else f"prefill-{options.shape}",
        rows,
        batch=options.batch,
        rounds=options.rounds,
        load_before_and_after=[before, os.getloadavg()[0]],
        save=not options.no_save,
        plot=options.plot,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 128, 512, 2048])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--shape", choices=list(SHAPES), help="random weights instead")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-save", action="store_true")
    measure.plot_option(parser)
    return parser.parse_args()


def _measure(options, dtype: str, length: int) -> list[dict[str, Any]]:
    model = model_of(options.shape, dtype)
    prompts = random_prompts(min(model.vocab_size, 40000), options.batch, length)
    variants = {"jaxdecode": functools.partial(_first_token, model, prompts)}
    memory: dict[str, float | None] = {}
    for name, read in (("reading in chunks", _chunks), ("reading whole", _whole)):
        variants[name], memory[name] = _reader(read, model, prompts)
    missing: list[str] = []
    if not options.no_peers:
        _add_peers(variants, missing, options.shape, dtype, prompts)
    timings = measure.interleave(variants, options.rounds)
    rows = []
    for name in variants:
        low, high = timings.spread(name)
        rows.append(
            {
                "dtype": dtype,
                "prompt tokens": length,
                "who": name,
                "ms": 1e3 * timings.median(name),
                "quartiles": f"{1e3 * low:.0f}..{1e3 * high:.0f}",
                "prompt tokens/s": options.batch * length / timings.median(name),
                "ours is faster by": None
                if name == "jaxdecode"
                else timings.ratio(name, "jaxdecode"),
                "temporaries MB": memory.get(name),
            }
        )
    return rows + [
        {"dtype": dtype, "prompt tokens": length, "who": f"missing: {m}"}
        for m in missing
    ]


def _first_token(model: Any, prompts: list[list[int]]) -> Any:
    sampler = jd.joint(**SAMPLER)
    return jax.block_until_ready(
        jd.generate(model, prompts, 0, sampler=sampler, max_new_tokens=1)
    )


def _reader(read, model: Any, prompts: list[list[int]]):
    """Return what reads the prompts once, and the megabytes it needs to do so."""
    padded = as_prompts("prefill", prompts, model.vocab_size, model.max_length)
    padded = jax.tree.map(jnp.asarray, padded)
    compiled = jax.jit(read).lower(model, padded).compile()
    need = compiled.memory_analysis().temp_size_in_bytes / 1e6

    def run():
        return jax.block_until_ready(compiled(model, padded)[0])

    return run, need


def _chunks(model: Any, prompts: Prompts):
    count, width = prompts.tokens.shape
    cache = model.init_cache(count, width + NEW_COLUMNS)
    return prefill(model, prompts, cache)


def _whole(model: Any, prompts: Prompts):
    count, width = prompts.tokens.shape
    cache = model.init_cache(count, width + NEW_COLUMNS)
    positions = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (count, width))
    return model(prompts.tokens, positions, cache, at=prompts.lengths - 1)


def _add_peers(variants, missing, shape, dtype, prompts: list[list[int]]) -> None:
    rows, length = len(prompts), len(prompts[0])
    wanted = {"Hugging-Face": lambda: _hugging_face(shape, dtype)}
    if shape is None:
        wanted["llama.cpp"] = lambda: _llama_cpp(dtype, rows, length)
    if PRECISIONS[dtype][1] is None:
        del wanted["Hugging-Face"]
    for name, make in wanted.items():
        try:
            variants[name] = functools.partial(make(), prompts, 1)
        except peers.MissingPeer as error:
            missing.append(str(error))


@functools.cache
def _hugging_face(shape: str | None, dtype: str) -> peers.Runner:
    kind = PRECISIONS[dtype][1]
    if shape is not None:
        return peers.hugging_face_random(shape, kind)
    return peers.hugging_face(resolve("smollm2-135m"), kind)


def _llama_cpp(dtype: str, rows: int, length: int) -> peers.Runner:
    path, kind = resolve("smollm2-135m"), PRECISIONS[dtype][0]
    columns = length + NEW_COLUMNS
    return peers.llama_cpp(path, kind, rows, columns, together=rows * length)


if __name__ == "__main__":
    main()
