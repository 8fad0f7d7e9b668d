"""What a search returns, and the walk along the back-pointers that writes it out."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import Array
from jaxdecode.core.status import Status
from jaxdecode.decode.beam.state import BackPointers, Finished, Search, take_columns


@pytree
class Beams:
    """The best hypotheses of each prompt, best first; R of them, up to T tokens.

    Where fewer were found than asked for, the rest have status INVALID, length 0 and
    score -inf.

    Attributes:
      tokens: int32 [B, R, T], generated tokens only, the eos included, then `pad_id`.
      lengths: int32 [B, R], how many of them are real, the eos counted.
      scores: float32 [B, R], descending.
      status: int8 [B, R], a `Status`: EOS, LENGTH or INVALID.
      token_logprobs: float32 [B, R, T], the log-prob that each token added to its
        hypothesis, after the edits; 0 after the end.
      parents: int32 [B, R, T], the beam that each token was appended to, -1 after the
        end; None unless asked for.
    """

    tokens: Array
    lengths: Array
    scores: Array
    status: Array
    token_logprobs: Array
    parents: Array | None


def collect(search: Search, pad_id: Any) -> Beams:
    """Return the finished hypotheses of each prompt, best first, all groups together."""
    plan, found = search.plan, search.finished
    scores = jnp.where(search.valid[:, None], found.scores, -jnp.inf)
    tokens, logprobs, parents = walk(search.pointers, found)

    def of_prompt(leaf):
        return leaf.reshape(-1, plan.prompt_beams, *leaf.shape[2:])

    scores, order = jax.lax.top_k(of_prompt(scores), plan.prompt_beams)
    exists = scores > -jnp.inf

    def best(leaf):
        return take_columns(of_prompt(leaf), order)

    lengths = jnp.where(exists, best(found.steps) + 1, 0)
    real = jnp.arange(plan.steps_max)[None, None] < lengths[:, :, None]
    # A group's beams are numbered after those of the groups before it.
    group = (order // plan.beams * plan.beams).astype(jnp.int32)
    return Beams(
        tokens=jnp.where(real, best(tokens), pad_id),
        lengths=lengths,
        scores=scores,
        status=jnp.where(exists, best(found.status), int(Status.INVALID)).astype(
            jnp.int8
        ),
        token_logprobs=jnp.where(real, best(logprobs), 0.0),
        parents=jnp.where(real, best(parents) + group[:, :, None], -1),
    )


def walk(
    pointers: BackPointers, ends: Finished
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Follow the back-pointers from the last tokens of hypotheses [N, M].

    Returns:
      tokens int32, logprobs float32, parents int32, each [N, M, T]; entries after a
      hypothesis's last step mean nothing.
    """
    steps = jnp.arange(pointers.tokens.shape[1], dtype=jnp.int32)

    def back(at, item):
        step, parents, tokens, logprobs = item
        is_end = ends.steps == step
        taken = (
            jnp.where(is_end, ends.tokens, take_columns(tokens, at)),
            jnp.where(is_end, ends.logprobs, take_columns(logprobs, at)),
            jnp.where(is_end, ends.parents, take_columns(parents, at)),
        )
        before = jnp.where(step <= ends.steps, taken[2], at)
        return before, taken

    first = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), pointers)
    items = (steps, first.parents, first.tokens, first.logprobs)
    _, (tokens, logprobs, parents) = jax.lax.scan(
        back, jnp.zeros_like(ends.parents), items, reverse=True
    )
    return tuple(jnp.moveaxis(leaf, 0, -1) for leaf in (tokens, logprobs, parents))  # type: ignore[return-value]
