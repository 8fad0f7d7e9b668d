"""What is reported of every step besides the token: entropies, ranks, alternatives.

Two distributions are reported on: the model's own, and the one the token was drawn from,
after every link. Names that begin with `sampling_`, and `kept` and `kept_mass`, report on
the second one, for which the whole row is processed a second time. Nothing here runs, or
is compiled, for a name that was not asked for.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core import check
from jaxdecode.core.platform import Platform
from jaxdecode.core.shapes import bucket
from jaxdecode.sampling import process
from jaxdecode.sampling.order import top_k
from jaxdecode.transforms import Chain, Context
from jaxdecode.transforms.cutoffs import entropy

SAMPLING = "sampling_"


@dataclasses.dataclass(frozen=True)
class Observable:
    """One thing to report: its name, and how many entries it has for each token."""

    name: str
    count: int = 0


def as_observables(who: str, observe: Any, vocab_size: int) -> tuple[Observable, ...]:
    """Return what names ask for, such as "entropy" or "top_logprobs:5".

    Raises:
      TypeError: if `observe` is not a name or several.
      ValueError: for an unknown name, or a number that does not fit.
    """
    names = [observe] if isinstance(observe, str) else observe
    if not isinstance(names, (list, tuple)) or not all(
        isinstance(name, str) for name in names
    ):
        raise TypeError(
            f"{who}: `observe` must be names such as 'entropy', "
            f"got {check.short(observe)}."
        )
    return tuple(_observable(who, name, vocab_size) for name in dict.fromkeys(names))


def blank(asked: Sequence[Observable], rows: int, width: int) -> dict[str, jax.Array]:
    """Return what is reported before any token: 0 everywhere, and -1 for ids."""
    found: dict[str, jax.Array] = {}
    for one in asked:
        prefix, name = _split(one.name)
        if name == "top_logprobs":
            shape = (rows, width, one.count)
            found[one.name] = jnp.zeros(shape, jnp.float32)
            found[f"{prefix}top_ids"] = jnp.full(shape, -1, jnp.int32)
        else:
            dtype = jnp.int32 if name in ("rank", "kept") else jnp.float32
            found[one.name] = jnp.zeros((rows, width), dtype)
    return found


def observe_step(
    asked: Sequence[Observable],
    chain: Chain,
    logits: jax.Array,
    contexts: Context,
    states: Any,
    token: jax.Array,
    *,
    platform: Platform | None = None,
) -> dict[str, jax.Array]:
    """Return what is reported of one step, a leaf [R] or [R, n] for each array.

    Args:
      asked: what is asked for. Static.
      chain: the sampler.
      logits: float32 [R, V], the model's.
      contexts: what the rows know of their past.
      states: the links' states before the token.
      token: int32 [R], what was drawn.
      platform: what the program is compiled for. Static.
    """
    if not asked:
        return {}
    needs_sampling = any(_of_sampling(one.name) for one in asked)
    rows = logits
    if needs_sampling:
        rows = process(chain, logits, contexts, states, platform=platform)
    seen: dict[str, jax.Array] = {}
    for one in asked:
        prefix, name = _split(one.name)
        values = rows if prefix else logits
        if name == "top_logprobs":
            best = jax.vmap(lambda row, n=one.count: _best(row, n, platform))(values)
            seen[one.name], seen[f"{prefix}top_ids"] = best
        elif name == "kept_mass":
            seen[name] = jax.vmap(_mass)(logits, rows)
        elif name == "kept":
            seen[name] = jnp.sum(rows > -jnp.inf, axis=1, dtype=jnp.int32)
        else:
            seen[one.name] = jax.vmap(_MEASURES[name])(values, token)
    return seen


def rank_of(row: jax.Array, token: jax.Array) -> jax.Array:
    """Return 1 for the best token; ties stand in the order of their ids."""
    ids = jnp.arange(row.shape[0], dtype=jnp.int32)
    before = (row > row[token]) | ((row == row[token]) & (ids < token))
    return 1 + jnp.sum(before, dtype=jnp.int32)


_MEASURES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "entropy": lambda row, token: entropy(row),
    "rank": rank_of,
}
_NAMES = ("entropy", "kept", "kept_mass", "rank", "top_logprobs:n")
_PLAIN = ("kept", "kept_mass")  # of both distributions at once: they take no prefix


def _best(
    row: jax.Array, count: int, platform: Platform | None
) -> tuple[jax.Array, jax.Array]:
    # Counts of one bucket share most of their work's shapes, not the cut.
    values, ids = top_k(row, min(bucket(count, low=8), row.shape[0]), platform=platform)
    logprobs = jax.nn.log_softmax(row)[ids[:count]]
    return logprobs, jnp.where(values[:count] > -jnp.inf, ids[:count], -1)


def _mass(logits: jax.Array, row: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(row > -jnp.inf, jax.nn.softmax(logits), 0.0))


def _split(name: str) -> tuple[str, str]:
    return (
        (SAMPLING, name[len(SAMPLING) :]) if name.startswith(SAMPLING) else ("", name)
    )


def _of_sampling(name: str) -> bool:
    return name in _PLAIN or bool(_split(name)[0])


def _observable(who: str, asked: str, vocab_size: int) -> Observable:
    name, colon, number = asked.partition(":")
    prefix, base = _split(name)
    if base == "top_logprobs" and number.isdecimal():
        count = int(check.whole(who, "observe", int(number), low=1, high=vocab_size))
        return Observable(name, count)
    if (base in _MEASURES or (base in _PLAIN and not prefix)) and not colon:
        return Observable(name)
    raise ValueError(
        f"{who}: `observe` must be among {', '.join(_NAMES)}, also with `{SAMPLING}` "
        f"before entropy, rank and top_logprobs, got {check.short(asked)}."
    )
