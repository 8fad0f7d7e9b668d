"""What does beam search cost, and what does sharing the prompt's cache save?

Whole calls, prompts included, interleaved: ours with prompts stored once, ours with a
whole cache per beam gathered in every step (the plain way), and Hugging Face's beam
search on torch, all on the very same weights. No text ends early. Beside the speed: the
bytes of keys and values held at the end, and whether the hypotheses agree.

Torch runs with each number of threads asked for; compare with its best. Its threads wait
for each other in every small product, so on a machine that others use two may be ten
times slower than one, which says nothing about beam search. The load average is part of
the output: above the number of cores, the ratio to the peer is not a result.

    python benchmarks/beam.py --beams 4 8 --rounds 15
"""

import argparse
import functools
import math
import os
from typing import Any

import jax
import measure
import numpy as np
import peers
from models import model_of

from jaxdecode.decode.beam import beam_search
from jaxdecode.models import SHAPES
from jaxdecode.weights import resolve


def main() -> None:
    """Measure every wanted number of beams and report."""
    options = _options()
    rows, before = [], os.getloadavg()[0]
    for dtype in options.dtypes:
        for beams in options.beams:
            rows += _measure(options, dtype, beams)
    measure.report(
        "beam" if options.shape is None else f"beam-{options.shape}",
        rows,
        batch=options.batch,
        context=options.context,
        new_tokens=options.new_tokens,
        rounds=options.rounds,
        load_before_and_after=[before, os.getloadavg()[0]],
        save=not options.no_save,
        plot=options.plot,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--beams", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--shape", choices=list(SHAPES), help="random weights instead")
    parser.add_argument(
        "--torch-threads", type=int, nargs="+", default=_thread_counts()
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-save", action="store_true")
    measure.plot_option(parser)
    return parser.parse_args()


def _thread_counts() -> list[int]:
    return sorted({1, os.cpu_count() or 1})


_model = functools.cache(model_of)  # once for every number of beams


@functools.cache
def _hugging_face(shape: str | None, dtype: str) -> Any:
    if shape is not None:
        return peers.hugging_face_random(shape, dtype).model
    return peers.hugging_face(resolve("smollm2-135m"), dtype).model


def _measure(options, dtype: str, beams: int) -> list[dict[str, Any]]:
    model = _model(options.shape, dtype)
    rng = np.random.default_rng(0)
    prompts = rng.integers(5, 40000, (options.batch, options.context)).tolist()
    new_tokens, missing = options.new_tokens, []
    variants = {
        f"jaxdecode {kind}": functools.partial(
            _ours, model, prompts, beams, new_tokens, kind
        )
        for kind in ("shared", "whole")
    }
    if not options.no_peers:
        try:
            theirs = _hugging_face(options.shape, dtype)
            for threads in options.torch_threads:
                variants[f"Hugging-Face, {threads} threads"] = functools.partial(
                    _theirs, theirs, prompts, beams, new_tokens, threads
                )
        except peers.MissingPeer as error:
            missing.append(str(error))
    expected = variants["jaxdecode whole"]()
    equal = {name: _equal(run(), expected) for name, run in variants.items()}
    timings = measure.interleave(variants, options.rounds)
    rows = []
    for name in variants:
        low, high = timings.spread(name)
        tokens = options.batch * new_tokens
        rows.append(
            {
                "dtype": dtype,
                "beams": beams,
                "who": name,
                "tokens/s": tokens / timings.median(name),
                "quartiles": f"{tokens / high:.1f}..{tokens / low:.1f}",
                "shared is faster by": None
                if name == "jaxdecode shared"
                else timings.ratio(name, "jaxdecode shared"),
                "cache MB": _cache_bytes(model, options, beams, name) / 1e6,
                "equal texts": f"{equal[name]} of {options.batch}",
            }
        )
    return rows + [
        {"dtype": dtype, "beams": beams, "who": f"missing: {m}"} for m in missing
    ]


def _ours(model, prompts, beams: int, new_tokens: int, memory: str) -> np.ndarray:
    found = beam_search(
        model, prompts, num_beams=beams, max_new_tokens=new_tokens, memory=memory
    )
    assert int(np.min(found.lengths)) == new_tokens
    return np.asarray(found.tokens)[:, 0]


def _theirs(model, prompts, beams: int, new_tokens: int, threads: int) -> np.ndarray:
    import torch

    torch.set_num_threads(threads)
    ids = torch.tensor(prompts, device=model.device)
    with torch.no_grad():
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=beams,
            do_sample=False,
            max_new_tokens=new_tokens,
            eos_token_id=None,
            pad_token_id=0,
        )
    return found[:, len(prompts[0]) :].cpu().numpy()


def _equal(found: np.ndarray, expected: np.ndarray) -> int:
    """Return how many prompts have the same best text."""
    return int((found == expected).all(axis=1).sum())


def _cache_bytes(model, options, beams: int, name: str) -> int | float:
    """Return the bytes of keys and values that a search holds at its end."""
    per_row = jax.eval_shape(lambda: model.init_cache(1, 1))
    column = sum(
        math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(per_row)
    )
    prompt, added = options.context, beams * (options.new_tokens - 1)
    if name != "jaxdecode shared":
        prompt *= beams
    return options.batch * column * (prompt + added)


if __name__ == "__main__":
    main()
