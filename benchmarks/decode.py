"""How many tokens a second does `generate` write, against whom, and how near the limit?

Ours in each precision beside Hugging Face on torch and llama.cpp on the very same
weights, whole calls (prompt included), interleaved. A decode step must read every
weight and the live cache once; the fraction is measured against the memory bandwidth of
the same run.

    python benchmarks/decode.py --batches 1 8 32 --rounds 15

With `--shape` the weights are random, so nothing is downloaded, and torch has the same
ones; on a GPU it runs eagerly and with a static cache and compilation.
"""

import argparse
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import measure
import numpy as np
import peers
from models import PRECISIONS, SAMPLER, model_of

import jaxdecode as jd
from jaxdecode.models import SHAPES
from jaxdecode.weights import resolve


def main() -> None:
    """Measure every wanted combination and report."""
    options = _options()
    speed = measure.bandwidth()
    rows = []
    for batch in options.batches:
        for context in options.contexts:
            rows += _measure(options, batch, context, speed)
    measure.report(
        options.name if options.shape is None else f"{options.name}-{options.shape}",
        rows,
        plot=options.plot,
        bandwidth_gb_s=speed / 1e9,
        new_tokens=options.new_tokens,
        rounds=options.rounds,
        sampler=SAMPLER,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--contexts", type=int, nargs="+", default=[16])
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtypes", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--shape", choices=list(SHAPES), help="random weights instead")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--name", default="decode", help="of the result that is kept")
    measure.plot_option(parser)
    return parser.parse_args()


def _measure(options, batch: int, context: int, speed: float) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    prompts = rng.integers(5, 40000, (batch, context)).tolist()
    variants, missing, new_tokens = {}, [], options.new_tokens
    for dtype in options.dtypes:
        variants[f"jaxdecode {dtype}"] = functools.partial(
            _ours, model_of(options.shape, dtype), prompts, new_tokens
        )
        if not options.no_peers:
            _add_peers(variants, missing, options.shape, dtype, prompts, new_tokens)
    timings = measure.interleave(variants, options.rounds)
    tokens = batch * options.new_tokens
    rows = []
    for name in variants:
        seconds = timings.median(name)
        low, high = timings.spread(name)
        ours = f"jaxdecode {name.split()[-1]}"
        rows.append(
            {
                "batch": batch,
                "context": context,
                "who": name,
                "tokens/s": tokens / seconds,
                "quartiles": f"{tokens / high:.0f}..{tokens / low:.0f}",
                "ours / theirs": None if name == ours else timings.ratio(name, ours),
                "of the limit": _limit(options, name, batch, context, speed, seconds),
            }
        )
    return rows + [
        {"batch": batch, "context": context, "who": f"missing: {m}"} for m in missing
    ]


def _ours(model: Any, prompts: list[list[int]], new_tokens: int) -> Any:
    sampler = jd.joint(**SAMPLER)
    out = jd.generate(model, prompts, 0, sampler=sampler, max_new_tokens=new_tokens)
    assert int(np.min(out.lengths)) == new_tokens
    return jax.block_until_ready(out)


def _add_peers(variants, missing, shape, dtype, prompts, new_tokens) -> None:
    for name, make in _peers_of(shape, dtype, prompts, new_tokens).items():
        try:
            variants[name] = functools.partial(make(), prompts, new_tokens)
        except peers.MissingPeer as error:
            missing.append(f"{name}: {error}")


def _peers_of(shape, dtype, prompts, new_tokens) -> dict[str, Callable]:
    """Return what makes each peer: of the default model's weights, or of random ones."""
    kind, torch_dtype = PRECISIONS[dtype]
    wanted = {}
    if shape is None:
        path = resolve("smollm2-135m")
        columns = max(128, 1 << math.ceil(math.log2(len(prompts[0]) + new_tokens)))
        read = len(prompts) * len(prompts[0])
        wanted[f"llama.cpp {dtype}"] = lambda: peers.llama_cpp(
            path, kind, len(prompts), columns, together=read
        )
        if torch_dtype:
            wanted[f"Hugging-Face {dtype}"] = lambda: peers.hugging_face(
                path, torch_dtype
            )
    elif torch_dtype:
        for compiled in (False, True) if jax.default_backend() == "gpu" else (False,):
            how = "compiled " if compiled else ""
            wanted[f"Hugging-Face {how}{dtype}"] = functools.partial(
                peers.hugging_face_random, shape, torch_dtype, compiled=compiled
            )
    return wanted


def _limit(options, name, batch, context, speed, seconds) -> float:
    """Return the fraction of the speed that reading weights and cache once allows."""
    model = model_of(options.shape, name.split()[-1])
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(model))
    length = context + options.new_tokens // 2
    cache = jax.eval_shape(lambda: model.init_cache(batch, length))
    held = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(cache))
    least = (weights + held) / speed * options.new_tokens
    return least / seconds


if __name__ == "__main__":
    main()
