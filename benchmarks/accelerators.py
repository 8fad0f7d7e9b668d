"""What do the compilers for TPU and CUDA make of `generate`, without a device?

The program is compiled for a chip from abstract arrays: no weight is in memory, nothing
is run. On TPU XLA's own estimate of a decode step's cycles is compared with reading
weights and the cache once at the bandwidth; on CUDA what a step starts and asks is
counted. Compile times mean something on a quiet machine only.

    pip install -e ".[accelerators]"
    python benchmarks/accelerators.py --chip v5e --shape llama-3.2-1b --batch 8
"""

import argparse
import collections
import dataclasses
import os
import pathlib
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing here may need a device

import jax
import measure

import jaxdecode as jd
from jaxdecode.core.pytree import replace
from jaxdecode.decode import trace
from jaxdecode.measure import chips, hlo
from jaxdecode.models import SHAPES, outline

SAMPLERS = {
    "greedy": {"temperature": 0.0},
    "plain": {},
    "joint": {
        "top_k": 50,
        "top_p": 0.9,
        "min_p": 0.02,
        "temperature": 0.8,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.1,
    },
}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter")
COLLECTIVES += ("all-reduce-start", "all-gather-start", "collective-permute")
ASKS = ("infeed", "outfeed", "send", "recv")


def main() -> None:
    """Compile every wanted combination, and report."""
    options = _options()
    rows = []
    for batch in options.batch:
        for sampler in options.samplers:
            rows.append(_compile(options, batch, sampler))
    name = f"accelerators-{options.chip}-{options.shape}"
    name += f"-{options.layers}-layers" if options.layers else ""
    name += f"-{options.mesh}" if options.mesh != "1x1" else ""
    measure.report(name, rows, save=options.save, plot=options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--chip", choices=list(chips.CHIPS), default="v5e")
    parser.add_argument("--shape", choices=list(SHAPES), default="llama-3.2-1b")
    parser.add_argument("--layers", type=int, help="instead of the shape's own")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    parser.add_argument(
        "--context", type=int, default=256, help="prompt and new tokens"
    )
    parser.add_argument("--mesh", default="1x1", help="devices: DATAxTENSOR")
    parser.add_argument("--samplers", nargs="+", default=["joint"], choices=SAMPLERS)
    parser.add_argument(
        "--save-hlo", type=pathlib.Path, help="a folder for the programs"
    )
    parser.add_argument("--save", action="store_true", help="keep the JSON in results/")
    measure.plot_option(parser)
    return parser.parse_args()


def _compile(options: argparse.Namespace, batch: int, sampler: str) -> dict[str, Any]:
    """Return one row of the report."""
    config = SHAPES[options.shape]
    if options.layers:
        config = dataclasses.replace(config, num_layers=options.layers)
    chip = chips.CHIPS[options.chip]
    data, tensor = map(int, options.mesh.split("x"))
    mesh = chips.mesh_of(options.chip, data=data, tensor=tensor)
    model = outline(config, options.dtype, platform=chip.platform)
    if mesh.size > 1:
        model = jd.shard(model, mesh, data="data", tensor="tensor")
    else:
        model = chips.placed(model, mesh)
    half = options.context // 2
    traced = trace(
        model,
        [[1] * half] * batch,
        0,
        sampler=jd.joint(**SAMPLERS[sampler]),
        max_new_tokens=options.context - half,
        platform=chip.platform,
    )
    begin = time.perf_counter()
    compiled = chips.compiled_for(traced, options.chip)
    seconds = time.perf_counter() - begin
    text = compiled.as_text()
    if options.save_hlo:
        options.save_hlo.mkdir(parents=True, exist_ok=True)
        path = options.save_hlo / f"{options.chip}-{batch}-{sampler}.txt"
        path.write_text(text)
    memory = compiled.memory_analysis()
    weights, cache = _held(model, chip.platform, batch, options.context)
    weights, cache = weights / tensor, cache / (data * tensor)
    row = {
        "sampler": sampler,
        "batch": batch,
        "context": options.context,
        "layers": config.num_layers,
        "mesh": options.mesh,
        "compile_s": round(seconds, 1),
        "code_mb": round(memory.generated_code_size_in_bytes / 1e6, 1),
        # The cache is made in the program, so it is among them.
        "temporaries_mb": round(memory.temp_size_in_bytes / 1e6, 1),
        "weights_mb": round(weights / 1e6, 1),  # of one device, about
        "cache_mb": round(cache / 1e6, 1),
    }
    return row | _step(hlo.Program(text), chip, weights + cache)


def _held(model: Any, platform: Any, batch: int, context: int) -> tuple[int, int]:
    """Return the bytes of all weights, and of the cache."""
    cache = jax.eval_shape(
        lambda: replace(model, split=None).on(platform).init_cache(batch, context)
    )
    weights = sum(map(hlo.bytes_of, jax.tree.leaves(model)))
    return weights, sum(map(hlo.bytes_of, jax.tree.leaves(cache)))


def _step(program: hlo.Program, chip: chips.Chip, read: int) -> dict[str, Any]:
    """Return what is said of a decode step."""
    name = program.step()
    step = program.reached(name)
    made = [line for line in step if line.kind not in hlo.FREE]
    sorts = [x for x in program.reached(name, fused=True) if x.kind == "sort"]
    kinds = collections.Counter(line.kind for line in step)
    row: dict[str, Any] = {
        "largest_made_mb": round(max(line.bytes for line in made) / 1e6, 1),
        "widest_sort": max(
            (axes[-1] for line in sorts for _, axes in line.shapes), default=0
        ),
        "host_transfers": sum(kinds[kind] for kind in ASKS),
        "collectives": sum(kinds[kind] for kind in COLLECTIVES),
    }
    if not chip.hertz:
        # Of a usual step: what is behind the condition of the draw is not counted.
        own = program[name]
        kernels = sum(line.kind in hlo.KERNELS for line in own)
        asked = sum(line.kind == "conditional" for line in own)
        asked += sum(line.kind == "while" and line.trips is None for line in own)
        return row | {"kernels": kernels, "questions": asked}
    cycles = program.step_cycles()
    limit = read / chip.bytes_per_s * chip.hertz
    return row | {
        "step_mcycles": cycles.total() / 1e6,
        "times_limit": cycles.total() / limit,
        **{f"{kind}_mcycles": cycles[kind] / 1e6 for kind in sorted(cycles)},
    }


if __name__ == "__main__":
    main()
