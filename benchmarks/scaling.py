"""How do speed and memory grow with the batch, the context and the vocabulary?

One of the three grows while the others stay small, on random weights of a known shape.
A step must read weights and live cache once: the fraction says how near that comes.
Memory is the compiler's own account of the whole run: weights, cache and temporaries,
and the most a run holds over weights + cache; the goal is at most 1.25.

    python benchmarks/scaling.py --rounds 3
"""

import argparse
import dataclasses
import functools
import tempfile
from typing import Any

import jax
import measure
from models import SAMPLER

import jaxdecode as jd
from jaxdecode.core.shapes import bucket
from jaxdecode.decode import trace
from jaxdecode.measure import measure_decoding, random_prompts, step_bytes
from jaxdecode.models import SHAPES, build, random_params

SMALL = {"batch": 1, "context": 16}


def main() -> None:
    """Measure along each axis and report."""
    options = _options()
    speed = measure.bandwidth()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        jd.enable_compilation_cache(folder)  # the account compiles what was run
        for batch in options.batches:
            rows.append(_point(options, speed, "batch", batch=batch))
        for context in options.contexts:
            rows.append(_point(options, speed, "context", context=context))
        for size in options.vocabularies:
            rows.append(_point(options, speed, "vocabulary", vocabulary=size))
        jax.config.update("jax_compilation_cache_dir", None)
    measure.report(
        f"scaling-{options.shape}",
        rows,
        bandwidth_gb_s=speed / 1e9,
        dtype=options.dtype,
        new_tokens=options.new_tokens,
        rounds=options.rounds,
        save=not options.no_save,
        plot=options.plot,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--contexts", type=int, nargs="*", default=[16, 256, 1024])
    parser.add_argument(
        "--vocabularies", type=int, nargs="*", default=[32000, 131072, 262144]
    )
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=list(SHAPES), default="smollm2-135m")
    parser.add_argument("--no-save", action="store_true")
    measure.plot_option(parser)
    return parser.parse_args()


@functools.lru_cache(maxsize=1)
def _model(shape: str, dtype: str, vocabulary: int | None) -> Any:
    config = SHAPES[shape]
    if vocabulary is not None:
        config = dataclasses.replace(config, vocab_size=vocabulary)
    return build(config, random_params(config), dtype)


def _point(
    options: argparse.Namespace,
    speed: float,
    axis: str,
    *,
    vocabulary: int | None = None,
    **changes: int,
) -> dict[str, Any]:
    model = _model(options.shape, options.dtype, vocabulary)
    sizes = SMALL | changes
    found = measure_decoding(
        model,
        **sizes,
        new_tokens=options.new_tokens,
        rounds=options.rounds,
        bandwidth=speed,
    )
    return {
        "what grows": axis,
        **sizes,
        "vocabulary": model.vocab_size,
        "tokens/s": found.tokens_per_second,
        "ms per step": found.step_ms,
        "first token, ms": found.first_token_ms,
        "of the limit": found.fraction_of_limit,
        **_memory(model, new_tokens=options.new_tokens, **sizes),
    }


def _memory(model: Any, *, batch: int, context: int, new_tokens: int) -> dict[str, Any]:
    prompts = random_prompts(model.vocab_size, batch, context)
    sampler = jd.joint(**SAMPLER)
    traced = trace(model, prompts, 0, sampler=sampler, max_new_tokens=new_tokens)
    need = traced.lower().compile().memory_analysis()
    peak = (
        need.argument_size_in_bytes
        + need.temp_size_in_bytes
        + need.output_size_in_bytes
        - need.alias_size_in_bytes
    )
    weights = step_bytes(model, 0, 1)
    columns = bucket(context) + bucket(new_tokens)
    cache = step_bytes(model, batch, columns) - weights
    return {
        "weights MB": weights / 1e6,
        "cache MB": cache / 1e6,
        "beside them MB": (peak - weights - cache) / 1e6,
        "peak / (weights + cache)": peak / (weights + cache),
    }


if __name__ == "__main__":
    main()
