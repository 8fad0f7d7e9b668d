"""What a beam search carries from token to token, and what stays fixed beside it.

Axes: B prompts, G groups of a prompt, N = B * G rows that are searched, K beams of a
row, C candidates of a row, T steps. Rows are prompt-major.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Array
from jaxdecode.decode.beam.scoring import Scoring
from jaxdecode.transforms import Chain

EARLY = {False: 0, True: 1, "never": 2}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What decides the shapes and the code of a search.

    Attributes:
      beams: K, beams of one group.
      groups: G.
      candidates: C, how many candidates of a row are looked at.
      steps_max: T, the most tokens a row may generate.
      sampled: whether candidates are drawn instead of taken from the top.
      renormalize: whether log-probs are normalised again after the edits.
      memory: "auto", "shared" or "whole"; see `jaxdecode.decode.beam.memory`.
      reads_tokens: whether the tokens of running hypotheses are kept side by side.
    """

    beams: int
    groups: int
    candidates: int
    steps_max: int
    sampled: bool
    renormalize: bool
    memory: str
    reads_tokens: bool

    @property
    def prompt_beams(self) -> int:
        """Beams of one prompt, G * K."""
        return self.groups * self.beams


@pytree
class Phrases:
    """Token sequences that a hypothesis must contain, one set per row.

    Attributes:
      tokens: int32 [N, P, L], padded with -1.
      lengths: int32 [N, P]; 0 is a phrase that asks nothing.
      borders: bool [N, P, L + 1, L + 1]: whether the first j tokens of a phrase are
        also the last j of its first i tokens.
    """

    tokens: Array
    lengths: Array
    borders: Array


@pytree
class BeamJob:
    """What a search was asked for.

    Attributes:
      chain: edits on log-probs, every parameter [N * K].
      keys: row keys [B], or None where nothing is drawn.
      prompt_lengths: int32 [N].
      budgets: int32 [N], how many tokens a hypothesis may have.
      eos_ids: int32 [E], padded with an id that no vocabulary has.
      pad_id: int32.
      scoring: how finished hypotheses are ranked, every parameter [N].
      early: int32, a value of `EARLY`.
      diversity: float32 [B], what a token costs that another group has just taken.
      phrases: what each hypothesis must contain, or None.
      plan: shapes and structure. Static.
    """

    chain: Chain
    keys: Any
    prompt_lengths: jax.Array
    budgets: jax.Array
    eos_ids: jax.Array
    pad_id: jax.Array
    scoring: Scoring
    early: Any
    diversity: jax.Array
    phrases: Phrases | None
    plan: Plan = static()


@pytree
class Trail:
    """Back-pointers: what each beam appended at each step, and to which beam.

    Attributes:
      parents: int32 [T, N, K].
      tokens: int32 [T, N, K].
      logprobs: float32 [T, N, K], after the edits.
    """

    parents: jax.Array
    tokens: jax.Array
    logprobs: jax.Array

    @staticmethod
    def empty(steps: int, rows: int, beams: int) -> "Trail":
        """Return a trail on which nothing happened: every beam is its own parent."""
        shape = (steps, rows, beams)
        own = jnp.arange(beams, dtype=jnp.int32)
        return Trail(
            parents=jnp.broadcast_to(own[None, None], shape),
            tokens=jnp.zeros(shape, jnp.int32),
            logprobs=jnp.zeros(shape, jnp.float32),
        )

    def record(self, step: jax.Array, parents, tokens, logprobs) -> "Trail":
        """Return the trail with one more step, each argument [N, K]."""
        put = jax.lax.dynamic_update_index_in_dim
        return Trail(
            parents=put(self.parents, parents, step, 0),
            tokens=put(self.tokens, tokens, step, 0),
            logprobs=put(self.logprobs, logprobs, step, 0),
        )


@pytree
class Finished:
    """The best finished hypotheses of each row, best first; each names its last token.

    Attributes:
      scores: float32 [N, K]; -inf where there is none.
      steps: int32 [N, K], the step at which the last token was appended.
      parents: int32 [N, K], the beam it was appended to.
      tokens: int32 [N, K], the last token.
      logprobs: float32 [N, K], its log-probability after the edits.
      status: int32 [N, K], a `Status`.
    """

    scores: jax.Array
    steps: jax.Array
    parents: jax.Array
    tokens: jax.Array
    logprobs: jax.Array
    status: jax.Array


@pytree
class BeamState:
    """The carry of the loop.

    Attributes:
      memory: what the model remembers of every beam.
      step: int32, tokens of each running hypothesis.
      open: bool [N], whether the row is still searched.
      sound: bool [N], whether its logits were sound so far.
      scores: float32 [N, K], sums of log-probs; -inf is a beam that holds nothing.
      tokens: int32 [N, K], the last tokens.
      history: int32 [N * K, S], prompt and tokens of each beam, or None.
      links: the chain's states, leaves [N * K, ...].
      logits: float32 [N * K, V], the model's, for the next tokens.
      progress: int32 [N, K, P], matched tokens of each phrase, or None.
      finished: the best finished hypotheses.
      trail: the back-pointers.
    """

    # -- what evolves
    memory: Any
    step: jax.Array
    open: jax.Array
    sound: jax.Array
    scores: jax.Array
    tokens: jax.Array
    history: Any
    links: Any
    logits: jax.Array
    progress: Any
    # -- what is emitted
    finished: Finished
    trail: Trail


@pytree
class Pool:
    """Candidates of each row: a beam and a token to append to it.

    Attributes:
      values: float32 [N, C], the sum of log-probs with the token; -inf is none.
      parents: int32 [N, C].
      tokens: int32 [N, C].
      logprobs: float32 [N, C], the token's own, after the edits.
      is_eos: bool [N, C].
      is_last: bool [N, C], whether the hypothesis is finished by this token.
      may_finish: bool [N, C], whether it stands high enough to be kept if finished.
      progress: int32 [N, C, P], or None.
    """

    values: jax.Array
    parents: jax.Array
    tokens: jax.Array
    logprobs: jax.Array
    is_eos: jax.Array
    is_last: jax.Array
    may_finish: jax.Array
    progress: Any

    def take(self, index: jax.Array) -> "Pool":
        """Return the candidates at int32 [N, M] of each row."""
        return jax.tree.map(lambda leaf: take_columns(leaf, index), self)


def take_columns(leaf: jax.Array, index: jax.Array) -> jax.Array:
    """Return `leaf[n, index[n]]` for each row n of a leaf [N, C, ...]."""
    return jax.vmap(lambda row, i: row[i])(leaf, index)
