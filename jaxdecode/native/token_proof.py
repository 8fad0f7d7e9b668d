"""Is the kernel for single tokens right on this very device? Tried beside plain numpy.

A program of its own: a kernel that reads where it must not ends all that its process
does on the device. `proven.py` starts it, and believes what it prints:

    python -m jaxdecode.native.token_proof "NVIDIA H100 80GB HBM3"

Shape suffixes are those of `token_kernel.py`.
"""

import dataclasses
import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.native import token_kernel
from jaxdecode.native.proven import OPENED, PROVEN

SCALE = 0.3
ROUNDS = 3  # threads that do not wait for each other may be right once
CLOSE = 0.02  # weights are rounded to bfloat16, which has eight bits
NUMBERS = jnp.bfloat16
RESULTS = ("mix", "keys", "values")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A small call of the kernel.

    Attributes:
      size: numbers of a head, D.
      group: query heads of a key head, G.
      parts: parts to be summed, P.
      columns: of the cache, T.
      window: as the kernel's.
      cap: as the kernel's.
    """

    size: int
    group: int
    parts: int
    columns: int
    window: int | None = None
    cap: float | None = None


# Every size of a head, more query heads than rows of a product and fewer, caches smaller
# than a block and with a last block that is not whole, windows, a cap.
CASES = (
    Case(size=64, group=4, parts=4, columns=1024),
    Case(size=128, group=1, parts=1, columns=275, window=70),
    Case(size=32, group=20, parts=4, columns=19),
    Case(size=256, group=3, parts=1, columns=600, window=133, cap=1.5),
)
HEADS = 2


def why_wrong(case: Case, *, copies: int, interpret: bool = False) -> str:
    """Return what the kernel does wrong, or "".

    Args:
      case: what is tried.
      copies: how often the rows are there, so that many groups of threads run at once.
      interpret: whether JAX runs the kernel step by step, on any platform.
    """
    positions, given = _given(case, copies)
    run = program(case, interpret=interpret)
    wanted = _expected(case, positions, given)
    for _ in range(ROUNDS):
        found = run(*map(jnp.asarray, given), jnp.asarray(positions))
        for name, mine, right in zip(RESULTS, found, wanted, strict=True):
            if not _agree(np.asarray(mine, np.float32), right):
                return f"wrong numbers in the {name} of {case}"
    return ""


def program(case: Case, *, interpret: bool = False) -> Any:
    """Return the kernel as a program that changes the cache in place."""
    options = {"scale": SCALE, "window": case.window, "cap": case.cap}
    kernel = functools.partial(token_kernel.attend_and_write, **options)
    return jax.jit(
        functools.partial(kernel, interpret=interpret), donate_argnums=(3, 4)
    )


def _given(case: Case, copies: int) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Return positions, and what else the kernel is given, but for the positions."""
    t, d = case.columns, case.size
    edge = min(token_kernel.COLUMNS, t - 1)
    # The first column, both sides of a block's edge, the last column, one beyond it.
    positions = np.tile([0, edge - 1, edge, t - 1, t], copies).astype(np.int32)
    generator = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    b, n = len(positions), HEADS * (case.group + 2)
    angles, stored = draw(b, d // 2), (b, HEADS, t, d)
    cache = draw(*stored).astype(NUMBERS), draw(*stored).astype(NUMBERS)
    return positions, (
        draw(case.parts, b, n, d),
        np.cos(angles),
        np.sin(angles),
        *cache,
    )


def _expected(case: Case, positions: np.ndarray, given: tuple[Any, ...]) -> list[Any]:
    """Return what the queries read, NaN where nobody looks, and the cache, in float32."""
    heads_PBND, cos, sin, *cache = given
    heads_BND = heads_PBND.sum(axis=0)
    k_BKTD, v_BKTD = (stored.astype(np.float32) for stored in cache)
    h = HEADS * case.group
    mixed_BHD = np.full((len(positions), h, case.size), np.nan, np.float32)
    for b, own in enumerate(positions):
        if own >= case.columns:  # the row has ended: nothing is written
            continue
        q, k = (_rotated(heads_BND[b, part], cos[b], sin[b]) for part in _split(h)[:2])
        k_BKTD[b, :, own], v_BKTD[b, :, own] = _rounded(k), heads_BND[b, _split(h)[2]]
        first = 0 if case.window is None else max(own - case.window + 1, 0)
        seen = slice(first, own + 1)
        for head in range(h):
            kv = head // case.group
            keys, values = k_BKTD[b, kv, seen], _rounded(v_BKTD[b, kv, seen])
            scores = keys @ _rounded(q[head] * SCALE)
            if case.cap is not None:
                scores = case.cap * np.tanh(scores / case.cap)
            weights = np.exp(scores - scores.max())
            mixed_BHD[b, head] = weights @ values / weights.sum()
    return [mixed_BHD, k_BKTD, v_BKTD]


def _split(h: int) -> tuple[slice, slice, slice]:
    """Return where the heads of queries, keys and values are."""
    return slice(0, h), slice(h, h + HEADS), slice(h + HEADS, h + 2 * HEADS)


def _rotated(heads: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    left, right = np.split(heads, 2, axis=-1)
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def _rounded(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(NUMBERS).astype(np.float32)


def _agree(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether numbers are alike; where NaN is wanted, anything is."""
    return bool(
        np.all(np.isnan(wanted) | (np.abs(found - wanted) <= CLOSE * (1 + abs(wanted))))
    )


def main(kind: str) -> None:
    """Print whether the kernel is proven on a device of a kind, or what is wrong."""
    device = next(x for x in jax.local_devices() if x.device_kind == kind)
    with jax.default_device(device):
        jnp.zeros(1).block_until_ready()
        print(OPENED, flush=True)
        print(_verdict())


def _verdict() -> str:
    try:
        reasons = (why_wrong(case, copies=16) for case in CASES)
        return next(filter(None, reasons), PROVEN)
    except Exception as error:  # whatever it is, the kernel is not used
        return f"{type(error).__name__}: {error}".split("\n")[0]


if __name__ == "__main__":
    main(sys.argv[1])
