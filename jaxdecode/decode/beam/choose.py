"""Choosing: which candidates a row has, and which of them its beams become.

A candidate is a beam and a token to append. The plain rule takes the C best sums of
log-probs of all beams and tokens of a row; C is large enough that K of them go on even
if every eos is among them. The beams become the best K that are not finished.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.pytree import replace
from jaxdecode.decode.beam.state import BeamJob, BeamState, Pool, take_columns
from jaxdecode.sampling.noise import gumbel_at
from jaxdecode.sampling.order import top_k


def best_of(job: BeamJob, totals: jax.Array, keys: Any) -> jax.Array:
    """Return the C candidates of each row, best first, as indices into [K * V].

    With `plan.sampled` they are drawn without replacement, in proportion to
    exp(total): the largest totals after adding Gumbel noise, that of candidate (k, v)
    being entry k * V + v of `gumbel(step_key, (K * V,))`.

    Reference: Kool, van Hoof and Welling, Stochastic Beams and Where to Find Them,
    2019, arXiv 1903.06059, for the draw.
    """
    flat = totals.reshape(totals.shape[0], -1)
    if job.plan.sampled:
        size = flat.shape[1]
        every = jnp.arange(size, dtype=jnp.int32)
        flat = flat + jax.vmap(lambda key: gumbel_at(key, every, size))(keys)
    return jax.vmap(lambda row: top_k(row, job.plan.candidates)[1])(flat)


def plain_pool(
    job: BeamJob, state: BeamState, rows: jax.Array, totals: jax.Array, keys: Any
) -> tuple[Pool, jax.Array]:
    """Return the candidates of each row and which K of them its beams become.

    Args:
      job: what was asked for.
      state: the search before this step; only `step` is read.
      rows: float32 [N, K, V], what each token would add to `token_logprobs`.
      totals: float32 [N, K, V], the sums to be compared; -inf is no candidate.
      keys: the step's keys [N], or None.

    Returns:
      The pool [N, C], and int32 [N, K]: its columns that go on, best first. Where
      fewer than K can go on, the rest point at candidates that are finished.
    """
    vocab_size = rows.shape[2]
    index = best_of(job, totals, keys)
    tokens = (index % vocab_size).astype(jnp.int32)
    pool = Pool(
        values=take_columns(totals.reshape(totals.shape[0], -1), index),
        parents=(index // vocab_size).astype(jnp.int32),
        tokens=tokens,
        logprobs=take_columns(rows.reshape(rows.shape[0], -1), index),
        is_eos=is_eos(job, tokens),
        is_last=jnp.zeros(tokens.shape, bool),
        may_finish=jnp.broadcast_to(
            jnp.arange(tokens.shape[1])[None] < job.plan.beams, tokens.shape
        ),
        progress=None,
    )
    pool = replace(pool, is_last=pool.is_eos | is_full(job, state)[:, None])
    _, kept = jax.lax.top_k(going_on(pool), job.plan.beams)
    return pool, kept


def grouped_pool(
    job: BeamJob, state: BeamState, rows: jax.Array, totals: jax.Array, keys: Any
) -> tuple[Pool, jax.Array]:
    """Choose group after group; each pays for tokens that earlier ones just took.

    A group's totals are lowered by `diversity` times the number of beams of earlier
    groups that took the token in this step (Hamming diversity). The price stays in the
    running sums, as in Hugging Face and fairseq; it is not in `token_logprobs`.

    Reference: Vijayakumar et al., Diverse Beam Search, 2016, arXiv 1610.02424.
    """
    groups = job.plan.groups
    if groups == 1:
        return plain_pool(job, state, rows, totals, keys)
    count, vocab_size = totals.shape[0] // groups, totals.shape[2]
    taken = jnp.zeros((count, vocab_size), jnp.float32)
    found = []
    for group in range(groups):

        def of_group(tree, group=group):
            return jax.tree.map(lambda leaf: leaf[group::groups], tree)

        price = job.diversity[:, None] * taken
        part = of_group((rows, totals))
        part_job = replace(job, budgets=of_group(job.budgets))
        part_state = replace(state, open=of_group(state.open))
        pool, kept = plain_pool(
            part_job, part_state, part[0], part[1] - price[:, None], of_group(keys)
        )
        found.append((pool, kept))
        beams = pool.take(kept)
        counts = (going_on(beams) > -jnp.inf) & part_state.open[:, None]
        taken = jax.vmap(lambda row, ids, on: row.at[ids].add(on))(
            taken, beams.tokens, counts.astype(jnp.float32)
        )
    return jax.tree.map(_interleave, *found)


def going_on(pool: Pool) -> jax.Array:
    """Return the values of candidates that are not finished; -inf for the others."""
    return jnp.where(pool.is_last, -jnp.inf, pool.values)


def is_eos(job: BeamJob, tokens: jax.Array) -> jax.Array:
    """Say of tokens [N, C] whether they end a hypothesis."""
    return jnp.any(tokens[:, :, None] == job.eos_ids[None, None], axis=2)


def is_full(job: BeamJob, state: BeamState) -> jax.Array:
    """Say of each row whether the token appended now is the last one it may have."""
    return state.step + 1 >= job.budgets


def _interleave(*parts: jax.Array) -> jax.Array:
    """Put the groups' rows [B, ...] back in the order of the search, [B * G, ...]."""
    stacked = jnp.stack(parts, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])
