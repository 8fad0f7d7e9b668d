"""Choosing: which candidates a row has, and which of them its beams become.

A candidate is a beam and a token to append. The plain rule takes the C best sums of
log-probs of all beams and tokens of a row; C is large enough that K of them go on even
if every eos is among them. The beams become the best K that are not finished.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.pytree import replace
from jaxdecode.core.rows import repeat_rows, take_rows
from jaxdecode.decode.beam.state import BeamCandidates, Search, take_columns
from jaxdecode.sampling.noise import gumbel_at
from jaxdecode.sampling.order import top_k


def best_of(search: Search, totals: jax.Array, keys: Any) -> jax.Array:
    """Return the C candidates of each row, best first, as indices into [K * V].

    With `plan.sampled` they are drawn without replacement, in proportion to
    exp(total): the largest totals after adding Gumbel noise, that of candidate (k, v)
    being entry k * V + v of `gumbel(step_key, (K * V,))`.

    Reference: Kool, van Hoof and Welling, Stochastic Beams and Where to Find Them,
    2019, arXiv 1903.06059, for the draw.
    """
    flat = totals.reshape(totals.shape[0], -1)
    if search.plan.sampled:
        size = flat.shape[1]
        every = jnp.arange(size, dtype=jnp.int32)
        flat = flat + jax.vmap(lambda key: gumbel_at(key, every, size))(keys)
    plan = search.plan

    def best(row):
        return top_k(row, plan.candidates, platform=plan.platform)[1]

    return jax.vmap(best)(flat)


def plain_candidates(
    search: Search, rows: jax.Array, totals: jax.Array, keys: Any
) -> tuple[BeamCandidates, jax.Array]:
    """Return the candidates of each row and which K of them its beams become.

    Args:
      search: the search before this step.
      rows: float32 [N, K, V], what each token would add to `token_logprobs`.
      totals: float32 [N, K, V], the sums to be compared; -inf is no candidate.
      keys: the step's keys [N], or None.

    Returns:
      The candidates [N, C], and int32 [N, K]: its columns that go on, best first. Where
      fewer than K can go on, the rest point at candidates that are finished.
    """
    vocab_size = rows.shape[2]
    index = best_of(search, totals, keys)
    tokens = (index % vocab_size).astype(jnp.int32)
    found = BeamCandidates(
        values=take_columns(totals.reshape(totals.shape[0], -1), index),
        parents=(index // vocab_size).astype(jnp.int32),
        tokens=tokens,
        logprobs=take_columns(rows.reshape(rows.shape[0], -1), index),
        is_eos=is_eos(search, tokens),
        is_last=jnp.zeros(tokens.shape, bool),
        may_finish=jnp.broadcast_to(
            jnp.arange(tokens.shape[1])[None] < search.plan.beams, tokens.shape
        ),
        progress=None,
    )
    found = replace(found, is_last=found.is_eos | is_full(search)[:, None])
    _, kept = jax.lax.top_k(unfinished(found), search.plan.beams)
    return found, kept


def grouped_candidates(
    search: Search, rows: jax.Array, totals: jax.Array, keys: Any
) -> tuple[BeamCandidates, jax.Array]:
    """Choose group after group; each pays for tokens that earlier ones just took.

    A group's totals are lowered by `diversity` times the number of beams of earlier
    groups that took the token in this step (Hamming diversity). The price stays in the
    running sums, as in Hugging Face and fairseq; it is not in `token_logprobs`.

    Reference: Vijayakumar et al., Diverse Beam Search, 2016, arXiv 1610.02424.
    """
    groups = search.plan.groups
    if groups == 1:
        return plain_candidates(search, rows, totals, keys)
    count, vocab_size = totals.shape[0] // groups, totals.shape[2]
    taken = jnp.zeros((count, vocab_size), jnp.float32)
    parts = []
    for group in range(groups):
        index = jnp.arange(count, dtype=jnp.int32) * groups + group
        part = _group_of(search, index)
        part_rows, part_totals, part_keys = take_rows((rows, totals, keys), index)
        price = search.diversity[:, None] * taken
        part_totals = part_totals - price[:, None]
        found, kept = plain_candidates(part, part_rows, part_totals, part_keys)
        parts.append((found, kept))
        beams = found.take(kept)
        counts = (unfinished(beams) > -jnp.inf) & part.open[:, None]
        taken = jax.vmap(lambda row, ids, on: row.at[ids].add(on))(
            taken, beams.tokens, counts.astype(jnp.float32)
        )
    return jax.tree.map(_interleave, *parts)


def _group_of(search: Search, index: jax.Array) -> Search:
    """Return what choosing needs of one group of each prompt, at rows `index`."""
    beams = search.plan.beams
    slots = repeat_rows(index * beams, beams) + jnp.tile(
        jnp.arange(beams, dtype=jnp.int32), index.shape[0]
    )
    lengths = (search.rows.length, search.rows.prompt_length)
    length, prompt_length = take_rows(lengths, slots)
    return replace(
        search,
        asked=take_rows(search.asked, index),
        open=search.open[index],
        rows=replace(search.rows, length=length, prompt_length=prompt_length),
    )


def unfinished(found: BeamCandidates) -> jax.Array:
    """Return the values of candidates that are not finished; -inf for the others."""
    return jnp.where(found.is_last, -jnp.inf, found.values)


def is_eos(search: Search, tokens: jax.Array) -> jax.Array:
    """Whether each of the tokens [N, C] ends a hypothesis."""
    return jnp.any(tokens[:, :, None] == search.asked.ends[:, None], axis=2)


def is_full(search: Search) -> jax.Array:
    """Whether the token appended now is the last one that a row may have, bool [N]."""
    return search.step + 1 >= search.asked.budget


def _interleave(*parts: jax.Array) -> jax.Array:
    """Put the groups' rows [B, ...] back in the order of the search, [B * G, ...]."""
    stacked = jnp.stack(parts, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])
