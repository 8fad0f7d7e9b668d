"""How near do products come to the arithmetic that the processor can do?

The products of a decode step of the default model, and as many multiply-adds as its
cores can do without reading anything, in the same process, in turn. With
`CC="cc -mno-avx512f"` both are compiled for AVX2.

    python benchmarks/products.py --rows 8 32 128
"""

import argparse
import concurrent.futures
import ctypes
import functools
import os
import pathlib
import subprocess
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np
from models import PRECISIONS, model_of

from jaxdecode.native import Panels, library, panel_products, why_unavailable

ROUNDS = 2_000_000  # a few ms of arithmetic
CORES = os.cpu_count() or 1


def main() -> None:
    """Measure every wanted combination and report."""
    options = _options()
    if why_unavailable():
        raise SystemExit(f"products.py: no kernels: {why_unavailable()}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        peak = _built(pathlib.Path(folder))
        for dtype in options.dtypes:
            rows += _measure(peak, dtype, options)
    compiler = os.environ.get("CC")
    measure.report(
        options.name, rows, save=options.save, plot=options.plot, compiler=compiler
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--dtypes", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--name", default="products", help="of the result that is kept")
    measure.plot_option(parser)
    return parser.parse_args()


def _built(folder: pathlib.Path) -> ctypes.CDLL:
    """Compile `peak.c` as the kernels are, for the same instructions."""
    here, made = pathlib.Path(__file__).parent, folder / "peak.so"
    command = [*library._compiler(), *library._flags()]
    command += [f"-I{pathlib.Path(library.__file__).parent}", "-o", str(made)]
    subprocess.run([*command, str(here / "peak.c")], check=True)
    peak = ctypes.CDLL(str(made))
    peak.arithmetic.argtypes = ctypes.c_int, ctypes.c_int64
    peak.operations.restype = ctypes.c_int64
    return peak


def _measure(
    peak: ctypes.CDLL, dtype: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    kind = list(PRECISIONS).index(dtype)  # as in `tile.h`
    model = model_of(None, dtype)
    step = jax.jit(_step)
    variants = {"peak": functools.partial(_spend, peak, kind)}
    for count in options.rows:
        x = np.random.default_rng(0).standard_normal((count, 576), np.float32)
        given = (jnp.asarray(x), _matrices(model))
        variants[str(count)] = functools.partial(_finish, step, given)
    timings = measure.interleave(variants, options.rounds)
    most = CORES * ROUNDS * peak.operations(kind) / timings.median("peak")
    found = []
    for count in options.rows:
        work = 2 * count * sum(o * i for o, i in _sizes(model))
        seconds = timings.median(str(count))
        found.append(
            {
                "dtype": dtype,
                "rows": count,
                "ms": seconds * 1e3,
                "GFLOP/s": work / seconds / 1e9,
                "peak GFLOP/s": most / 1e9,
                "of the peak": work / seconds / most,
            }
        )
    return found


def _spend(peak: ctypes.CDLL, kind: int) -> None:
    """Let every core do nothing but arithmetic."""
    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda _: peak.arithmetic(kind, ROUNDS), range(CORES)))


def _finish(step: Any, given: Any) -> None:
    jax.block_until_ready(step(*given))


def _matrices(model: Any) -> dict[str, tuple[Panels, Any]]:
    """Return the model's matrices by name, each with its scale or None."""
    leaves = dict(zip(model.definition.names, model.leaves, strict=True))
    return {
        name.removesuffix(".weight"): (leaf, leaves.get(name[:-6] + "scale"))
        for name, leaf in leaves.items()
        if isinstance(leaf, Panels)
    }


def _sizes(model: Any) -> list[tuple[int, int]]:
    return [panels.shape for panels, _ in _matrices(model).values()]


def _step(x: jax.Array, matrices: dict[str, tuple[Panels, Any]]) -> jax.Array:
    """Return what all products of a step make of rows [M, W], one after the other."""

    def products(x, *names, **first):
        panels, scales = zip(*(matrices[name] for name in names), strict=True)
        return panel_products(x, panels, scales, **first)

    layers = sum(name.endswith("attention.q") for name in matrices)
    norm = {"norm": jnp.ones(x.shape[1]), "eps": 1e-5}
    for layer in range(layers):
        q, _, _ = products(x, *(f"layers.{layer}.attention.{n}" for n in "qkv"), **norm)
        (x,) = products(q, f"layers.{layer}.attention.o")
        parts = (f"layers.{layer}.mlp.{name}" for name in ("gate", "up"))
        gate, up = products(x, *parts, **norm)
        gated = {"gate": "silu", "factors": up}
        (x,) = products(gate, f"layers.{layer}.mlp.down", **gated)
    return products(x, "embedding", **norm)[0]


if __name__ == "__main__":
    main()
