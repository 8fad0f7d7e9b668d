"""How a hypothesis is ranked: a value that turns log-probability and length to a score.

A scoring is written for ONE hypothesis. The score must not fall when the
log-probability rises; that is what makes the bounds of `early_stopping` bounds.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import assign, pytree, replace, static
from jaxdecode.core.shapes import Array, Scalar
from jaxdecode.transforms import Context

# From the sum of log-probabilities and the length to a score.
ScoreOfLength: TypeAlias = Callable[[jax.Array, jax.Array], Any]


@pytree
class Hypothesis:
    """What a scoring may know of one hypothesis.

    Attributes:
      logprob: float32, the sum of its tokens' log-probabilities, after the edits.
      length: int32, generated tokens, the eos counted.
      prompt_length: int32.
      ended: bool, whether its last token is an eos.
      context: its tokens, or None where a bound over hypotheses still to come is asked.
    """

    logprob: jax.Array
    length: jax.Array
    prompt_length: jax.Array
    ended: jax.Array
    context: Context | None = None


class Scoring:
    """A rule that ranks finished hypotheses; the largest score is the best.

    Attributes:
      reads_tokens: whether it looks at `hypothesis.context`.
    """

    reads_tokens: ClassVar[bool] = False

    def __call__(self, hypothesis: Hypothesis) -> jax.Array:
        """Return the float32 score of one hypothesis."""
        raise NotImplementedError


@pytree
class LengthPenalty(Scoring):
    """Divide the sum of log-probabilities by a power of the length.

    `score = logprob / n ** alpha`. Hugging Face counts generated tokens with their eos,
    which is the default here; vLLM counts the prompt and leaves the eos out, so that
    the same `alpha` ranks differently there.

    Args:
      alpha: finite, any sign; 0 ranks by the sum, 1 by the mean (neutral in length),
        more favours long hypotheses. Usual values: 0.6 to 2.
      count_prompt: whether n counts the prompt's tokens (vLLM) or not (Hugging Face).
      count_eos: whether n counts the closing eos (Hugging Face) or not (vLLM).

    Raises:
      ValueError: if `alpha` is NaN or infinite.

    Reference: Hugging Face transformers 5.23, `length_penalty`.
    """

    alpha: Scalar = 1.0
    count_prompt: Scalar = False
    count_eos: Scalar = True

    def __post_init__(self):
        check.within(self, alpha=self.alpha)
        for name in ("count_prompt", "count_eos"):
            assign(self, name, check.flag("LengthPenalty", name, getattr(self, name)))

    def __call__(self, hypothesis):
        n = hypothesis.length + jnp.where(
            self.count_prompt, hypothesis.prompt_length, 0
        )
        n = n - jnp.where(hypothesis.ended & ~jnp.asarray(self.count_eos), 1, 0)
        return hypothesis.logprob / jnp.maximum(n, 1).astype(jnp.float32) ** self.alpha


@pytree
class GNMT(Scoring):
    """Divide by the length term of Google's translation system, and add a coverage term.

    `score = logprob / ((5 + n) / 6) ** alpha + coverage(context)`.

    Args:
      alpha: finite, any sign; 0 ranks by the sum. Usual values: 0.2 to 1.
      coverage: a function of the hypothesis's `Context` (its tokens, prompt included)
        that returns float32 at most 0, or None. A decoder has no attention over a
        source to count, so what covers what is the caller's to say. Static: pass the
        same object each time, another is another program.

    Raises:
      ValueError: if `alpha` is NaN or infinite.

    Reference: Wu et al., Google's Neural Machine Translation System, 2016, arXiv
    1609.08144, section 7.
    """

    alpha: Scalar = 0.2
    coverage: Callable[[Context], Any] | None = static(default=None)

    def __post_init__(self):
        check.within(self, alpha=self.alpha)
        _check_function("GNMT", "coverage", self.coverage, optional=True)

    @property
    def reads_tokens(self) -> bool:  # type: ignore[override]
        """Whether there is a coverage term."""
        return self.coverage is not None

    def __call__(self, hypothesis):
        n = hypothesis.length.astype(jnp.float32)
        score = hypothesis.logprob / ((5.0 + n) / 6.0) ** self.alpha
        if self.coverage is None or hypothesis.context is None:
            return score
        return score + self.coverage(hypothesis.context)


@pytree
class ScoreFunction(Scoring):
    """A function of (sum of log-probabilities, length) as a scoring.

    Args:
      function: `(logprob, length) -> score`, all float32, for one hypothesis, not
        falling in its first argument. Static: pass the same object each time.
    """

    function: ScoreOfLength = static()

    def __post_init__(self):
        _check_function("ScoreFunction", "function", self.function)

    def __call__(self, hypothesis):
        length = hypothesis.length.astype(jnp.float32)
        score = self.function(hypothesis.logprob, length)
        return jnp.asarray(score).astype(jnp.float32)


def as_scoring(who: str, scoring: Any, length_penalty: Any) -> Scoring:
    """Return the scoring that `scoring` and `length_penalty` ask for.

    Raises:
      TypeError: if `scoring` is neither a scoring nor a function.
      ValueError: if both arguments say something.
    """
    if scoring is None:
        return LengthPenalty(length_penalty)
    if not (np.ndim(length_penalty) == 0 and not check.is_traced(length_penalty)):
        given = True
    else:
        given = length_penalty != 1.0
    if given:
        raise ValueError(
            f"{who}: `length_penalty` must be left out where `scoring` is given, "
            f"got {check.short(length_penalty)}."
        )
    if isinstance(scoring, Scoring):
        return scoring
    if callable(scoring) and not isinstance(scoring, type):
        return ScoreFunction(scoring)
    raise TypeError(
        f"{who}: `scoring` must be a scoring such as LengthPenalty(0.6), or a function "
        f"of (logprob, length), got {check.short(scoring)}."
    )


def per_row(who: str, scoring: Scoring, count: int, repeats: int) -> Scoring:
    """Return a scoring whose every parameter is a vector [count * repeats].

    Raises:
      ValueError: if a parameter is neither a number nor one per prompt.
    """

    def spread(leaf):
        if np.ndim(leaf) == 1 and np.shape(leaf)[0] != count:
            raise ValueError(
                f"{who}: {type(scoring).__name__}'s parameters must be a number or one "
                f"per prompt ({count}), got {np.shape(leaf)[0]}."
            )
        of = jnp if check.is_traced(leaf) else np
        return of.repeat(of.broadcast_to(leaf, (count,)), repeats)

    return jax.tree.map(spread, scoring)


def score_rows(scoring: Scoring, hypotheses: Hypothesis) -> jax.Array:
    """Return the scores [N, C] of hypotheses with leaves [N, C, ...]; NaN is -inf."""
    over_columns = jax.vmap(lambda s, h: s(h), in_axes=(None, 0))
    scores = jax.vmap(over_columns)(scoring, hypotheses)
    return jnp.where(jnp.isnan(scores), -jnp.inf, scores)


def best_ahead(
    scoring: Scoring, hypotheses: Hypothesis, budgets: Array, length_max: int
) -> jax.Array:
    """Return the best score [N] that running hypotheses can still reach.

    The log-probability can only fall, so it is the best over all lengths from the
    present one to the budget: admissible for every sign of a length penalty.

    Args:
      scoring: parameters [N].
      hypotheses: the best running one of each row, leaves [N].
      budgets: int32 [N].
      length_max: at least every budget. Static.
    """
    lengths = jnp.arange(1, length_max + 1, dtype=jnp.int32)

    def one_row(scoring, hypothesis, budget):
        def at(length, ended):
            return scoring(replace(hypothesis, length=length, ended=ended))

        over = jax.vmap(jax.vmap(at, in_axes=(0, None)), in_axes=(None, 0))
        scores = over(lengths, jnp.asarray([False, True]))
        scores = jnp.where(jnp.isnan(scores), -jnp.inf, jnp.max(scores, axis=0)[None])
        ahead = (lengths >= hypothesis.length) & (lengths <= budget)
        return jnp.max(jnp.where(ahead[None], scores, -jnp.inf))

    return jax.vmap(one_row)(scoring, hypotheses, budgets)


def _check_function(who: str, name: str, value: Any, *, optional: bool = False) -> None:
    if (value is None and optional) or callable(value):
        return
    raise TypeError(f"{who}: `{name}` must be a function, got {check.short(value)}.")
