"""What a beam search carries from token to token.

Axes: B prompts, G groups of a prompt, N = B * G rows that are searched, K beams of a
row, C candidates of a row, T steps. Rows are prompt-major.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Array
from jaxdecode.decode.beam.scoring import Scoring
from jaxdecode.decode.rows import Rows

EARLY = {False: 0, True: 1, "never": 2}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What decides the shapes and the code of a search.

    Attributes:
      beams: K, beams of one group.
      groups: G.
      candidates: C, how many candidates of a row are compared.
      steps_max: T, the most tokens a row may generate.
      sampled: whether candidates are drawn instead of taken from the top.
      renormalize: whether log-probs are normalised again after the edits.
      memory: "auto", "shared" or "whole"; see `jaxdecode.decode.beam.caches`.
      platform: what the program is compiled for.
    """

    beams: int
    groups: int
    candidates: int
    steps_max: int
    sampled: bool
    renormalize: bool
    memory: str
    platform: Platform

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
class BackPointers:
    """What each beam appended at each step, and to which beam.

    Attributes:
      parents: int32 [N, T, K].
      tokens: int32 [N, T, K].
      logprobs: float32 [N, T, K], after the edits.
    """

    parents: jax.Array
    tokens: jax.Array
    logprobs: jax.Array

    @staticmethod
    def empty(rows: int, steps: int, beams: int) -> "BackPointers":
        """Return back-pointers of no step: every beam is its own parent."""
        shape = (rows, steps, beams)
        own = jnp.arange(beams, dtype=jnp.int32)
        return BackPointers(
            parents=jnp.broadcast_to(own[None, None], shape),
            tokens=jnp.zeros(shape, jnp.int32),
            logprobs=jnp.zeros(shape, jnp.float32),
        )

    def record(self, step: jax.Array, parents, tokens, logprobs) -> "BackPointers":
        """Return them with one more step [N] of each row; the rest [N, K]."""

        def put(buffer, at, new):
            return buffer.at[at].set(new, mode="drop")

        over = jax.vmap(put)
        return BackPointers(
            parents=over(self.parents, step, parents),
            tokens=over(self.tokens, step, tokens),
            logprobs=over(self.logprobs, step, logprobs),
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
class Search:
    """A search: what was asked for, and where it stands.

    Attributes:
      asked: what was asked for of each row, N of them; never started.
      scoring: how finished hypotheses are ranked, every parameter [N].
      early: int32, a value of `EARLY`.
      diversity: float32 [B], what a token costs that another group has just taken.
      phrases: what each hypothesis must contain, or None.
      plan: shapes and structure. Static.
      rows: the running hypotheses, N * K of them.
      open: bool [N], whether the row is still searched.
      valid: bool [N], whether its logits were valid so far.
      scores: float32 [N, K], sums of log-probs; -inf is a beam that holds nothing.
      progress: int32 [N, K, P], matched tokens of each phrase, or None.
      finished: the best finished hypotheses.
      pointers: the back-pointers.
    """

    # -- what was asked for
    asked: Rows
    scoring: Scoring
    early: Any
    diversity: jax.Array
    phrases: Phrases | None
    plan: Plan = static()
    # -- what evolves
    rows: Rows = dataclasses.field(kw_only=True)
    open: Any = None
    valid: Any = None
    scores: Any = None
    progress: Any = None
    # -- what is emitted
    finished: Any = None
    pointers: Any = None

    @property
    def step(self) -> jax.Array:
        """Tokens of the running hypotheses of each row, int32 [N]."""
        generated = self.rows.length - self.rows.prompt_length
        return generated.reshape(-1, self.plan.beams)[:, 0]


@pytree
class BeamCandidates:
    """Candidates of each row: a beam and a token to append to it.

    Attributes:
      values: float32 [N, C], the sum of log-probs with the token; -inf is none.
      parents: int32 [N, C].
      tokens: int32 [N, C].
      logprobs: float32 [N, C], the token's own, after the edits.
      is_eos: bool [N, C].
      is_last: bool [N, C], whether the hypothesis is finished by this token.
      may_finish: bool [N, C], whether it ranks high enough to be kept if finished.
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

    def take(self, index: jax.Array) -> "BeamCandidates":
        """Return the candidates at int32 [N, M] of each row."""
        return jax.tree.map(lambda leaf: take_columns(leaf, index), self)


def take_columns(leaf: jax.Array, index: jax.Array) -> jax.Array:
    """Return `leaf[n, index[n]]` for each row n of a leaf [N, C, ...]."""
    return jax.vmap(lambda row, i: row[i])(leaf, index)
