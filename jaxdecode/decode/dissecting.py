"""What each link of a chain did to each step of a text: the numbers behind a report.

A text that was drawn is read again. In ordinary Python, for one row:

    for t, token in enumerate(text):
        rows = [the model's logits]
        for link in chain:
            rows.append(link(rows[-1]))
        report what is lost between neighbours, and what each row says of the token

Beside the links' work it keeps what other settings can be computed from: the best logits
of each step, those of all tokens seen before, and of the rest (the tail) its size, its
bounds, and its mass and mean at some temperatures.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.keys import prompt_keys, sample_keys
from jaxdecode.core.numerics import finite_or_zero, log_sum_exp
from jaxdecode.core.platform import Platform
from jaxdecode.core.processes import in_every_process
from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Array, KeyLike, bucket
from jaxdecode.decode.observables import rank_of
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import as_prompts
from jaxdecode.decode.replaying import Texts, joined, replay
from jaxdecode.native import current_platform
from jaxdecode.sampling import init_rows, observe, process_seen, update_rows
from jaxdecode.sampling.lift import are_off
from jaxdecode.sampling.noise import gumbel_at
from jaxdecode.sampling.order import top_k
from jaxdecode.transforms import Chain, Context, Drawn, Link
from jaxdecode.transforms.base import observes, overrides
from jaxdecode.transforms.cutoffs import entropy

CHUNK = 16  # columns that are read at once


@dataclasses.dataclass(frozen=True)
class Detail:
    """How much is kept of each step.

    Attributes:
      alternatives: best tokens that are followed through the chain, by the model and by
        the sampler.
      stored: best logits that are kept, K.
      base: how many links come before the logits that are kept.
    """

    alternatives: int
    stored: int
    base: int


@pytree
class Dissection:
    """What happened at each of T steps of one text; L links, M tokens that are followed.

    Column 0 of an axis of L + 1 is the model's own distribution, column i + 1 the one
    after link i.

    Attributes:
      logprob: float32 [T, L + 1], of the token that was drawn.
      rank: int32 [T, L + 1], its rank, 1 for the best.
      entropy: float32 [T, L + 1], in nats.
      removed_count: int32 [T, L], tokens that the link dropped.
      removed_mass: float32 [T, L], what they held before it.
      ids: int32 [T, M], tokens that are followed: the model's best, the sampler's best,
        the one drawn. Some stand twice.
      logprobs: float32 [T, L + 1, M], theirs.
      noise: float32 [T, M], what the seed adds to each: the largest sum is drawn.
      key: uint32 [T, 2], the words of the step's key.
      top_ids: int32 [T, K], the best tokens after the first `base` links.
      top_logits: float32 [T, K], their logits there.
      seen_logits: float32 [T, S], those of prompt and text, column by column.
      tail_count: int32 [T], tokens still allowed that are in neither.
      tail_bounds: float32 [T, 2], their largest and smallest logit; -inf without any.
      tail_mass: float32 [T, J], log(sum(exp(z / t - best / t))) over the tail, at J
        temperatures t, best being the largest logit of the row.
      tail_mean: float32 [T, J], the mean of z / t over the tail at these temperatures.
    """

    logprob: Array
    rank: Array
    entropy: Array
    removed_count: Array
    removed_mass: Array
    ids: Array
    logprobs: Array
    noise: Array
    key: Array
    top_ids: Array
    top_logits: Array
    seen_logits: Array
    tail_count: Array
    tail_bounds: Array
    tail_mass: Array
    tail_mean: Array


def dissect(
    model: Model,
    prompt: Sequence[int],
    tokens: Sequence[int],
    key: KeyLike,
    chain: Chain,
    *,
    detail: Detail,
    temperatures: Sequence[float],
) -> Dissection:
    """Return what each link did at each step of a text that the chain has written.

    Recompiles for another model structure, bucket of prompt or text length, links or
    `detail`; never for other values.

    Args:
      model: anything that satisfies the `Model` protocol.
      prompt: the prompt's tokens.
      tokens: the text's tokens.
      key: as in `generate` for this one prompt.
      chain: the sampler, parameters numbers or one for the row.
      detail: how much is kept. Static.
      temperatures: where the tail is measured, each above 0.

    Returns:
      A `Dissection` of numpy arrays.
    """
    size = (model.vocab_size, model.max_length)
    read = as_prompts("inspect", [list(prompt)], *size)
    given = as_prompts("inspect", [list(tokens)], *size, name="tokens")
    chain.check(1, model.vocab_size)
    keys = sample_keys(prompt_keys("inspect", key, 1), 1)
    found = _run(
        model,
        read,
        given,
        chain.per_row(1),
        keys,
        np.asarray(temperatures, np.float32),
        detail=detail,
        platform=current_platform(),
    )
    # Of one row, without the columns that only fill up the bucket.
    found = in_every_process(found)
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[0, : len(tokens)], found)
    columns = len(prompt) + len(tokens)
    found["seen_logits"] = found["seen_logits"][:, :columns]
    return Dissection(**found)


@compiled(static=("detail", "platform"))
def _run(model, prompts, given, chain, keys, temperatures, *, detail, platform):
    tokens = joined(prompts, given, model.max_length)
    texts = Texts(prompts, given, tokens, chain, keys)
    states = init_rows(chain, texts.contexts(0, model.vocab_size))

    def say(states, start, read):
        (logits,) = read
        steps = start + jnp.arange(logits.shape[0], dtype=jnp.int32)
        drawn = given.tokens[:, jnp.minimum(steps, texts.width - 1)].T

        def one(states, inputs):
            step, raw, token = inputs
            contexts = texts.contexts(step, raw.shape[1])
            rows, views = stages(chain, raw, contexts, states, platform=platform)
            said = _of_step(
                rows, contexts, token, temperatures, detail=detail, platform=platform
            )
            known = Drawn(
                token=token,
                logprob=said["logprob"][:, -1],
                context=contexts,
                seen=observe(chain, views, token),
            )
            return update_rows(chain, states, known), said

        return jax.lax.scan(one, states, (steps, logits, drawn))

    return replay((model,), texts, say, states, chunk=CHUNK, platform=platform)


def stages(
    chain: Chain, logits: jax.Array, contexts: Context, states: Any, *, platform
) -> tuple[list[jax.Array], list[Any]]:
    """Return the rows [R, V] before the first link and after each, and what links saw."""
    rows, views = [logits], []
    for link, state in zip(chain.links, states, strict=True):
        after, seen = _stage(link, rows[-1], contexts, state, platform)
        rows.append(after)
        views += seen
    return rows, views


def _stage(link: Link, rows, contexts, state, platform):
    """Apply one link; one that is off for every row is passed by, for it may sort."""

    def run(rows):
        return process_seen(Chain((link,)), rows, contexts, (state,), platform=platform)

    if observes(link) or not overrides(link, Link.is_off):
        return run(rows)
    off = jnp.all(are_off((link,), rows.shape[0]))
    return jax.lax.cond(off, lambda rows: rows, lambda r: run(r)[0], rows), [None]


def _of_step(rows, contexts, token, temperatures, *, detail: Detail, platform):
    """Return what is said of one step, leaves [R, ...]."""

    def one(rows, base, context, token, key):
        said = _followed(rows, context, token, key, detail, platform)
        return said | _stored(base, context, temperatures, detail, platform)

    stacked = jnp.stack(rows, axis=1)
    base = stacked[:, detail.base]
    return jax.vmap(one)(stacked, base, contexts, token, contexts.key)


def _followed(rows, context, token, key, detail: Detail, platform: Platform):
    """Return what the rows [L + 1, V] of one step say of the token and of its rivals."""
    count = min(detail.alternatives, rows.shape[1])
    best = [top_k(row, _wide(count, row), platform=platform)[1][:count] for row in (
        rows[0], rows[-1]
    )]  # fmt: skip
    ids = jnp.concatenate([*best, token[None]])
    norms = jax.vmap(log_sum_exp)(rows)
    logprobs = jnp.where(
        rows[:, ids] > -jnp.inf, rows[:, ids] - norms[:, None], -jnp.inf
    )
    before, after = rows[:-1], rows[1:]
    lost = (before > -jnp.inf) & (after == -jnp.inf)
    mass = jnp.where(lost, jnp.exp(before - norms[:-1, None]), 0.0)
    return {
        "logprob": logprobs[:, -1],
        "rank": jax.vmap(rank_of, (0, None))(rows, token),
        "entropy": jax.vmap(entropy)(rows),
        "removed_count": jnp.sum(lost, axis=1, dtype=jnp.int32),
        "removed_mass": jnp.sum(mass, axis=1),
        "ids": ids,
        "logprobs": logprobs,
        "noise": gumbel_at(key, ids, context.vocab_size),
        "key": jax.random.key_data(key)[:2],
    }


def _stored(row, context: Context, temperatures, detail: Detail, platform: Platform):
    """Return what is kept of one row: the best, the seen, and the sums of the rest."""
    size = min(detail.stored, row.shape[0])
    values, ids = top_k(row, _wide(size, row), platform=platform)
    values, ids = values[:size], ids[:size]
    column = jnp.arange(context.tokens.shape[0])
    past = jnp.where(column < context.length, context.tokens, row.shape[0])
    known = jnp.zeros(row.shape, bool).at[past].set(True, mode="drop")
    known = known.at[ids].set(True)
    tail = jnp.where(known, -jnp.inf, row)
    rest = tail > -jnp.inf

    def at(t):
        scaled = tail / t
        # Relative to the best: far from 0 a sum would lose its digits.
        moved = scaled - finite_or_zero(jnp.max(row)) / t
        mass = jnp.where(rest, jnp.exp(moved), 0.0)
        total = jnp.sum(mass)
        mean = jnp.sum(jnp.where(rest, mass * scaled, 0.0)) / total
        return jnp.log(total), jnp.where(total > 0, mean, 0.0)

    mass, mean = jax.lax.map(at, jnp.asarray(temperatures))
    least = jnp.min(jnp.where(rest, tail, jnp.inf))
    bounds = jnp.stack([jnp.max(tail), jnp.where(rest.any(), least, -jnp.inf)])
    return {
        "top_ids": ids,
        "top_logits": values,
        "seen_logits": row[jnp.clip(context.tokens, 0, row.shape[0] - 1)],
        "tail_count": jnp.sum(rest, dtype=jnp.int32),
        "tail_bounds": bounds,
        "tail_mass": mass,
        "tail_mean": mean,
    }


def _wide(count: int, row: jax.Array) -> int:
    """Return the bucket of a count: counts of one bucket share most of their work."""
    return min(bucket(count, low=8), row.shape[0])
