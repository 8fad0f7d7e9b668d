"""Required phrases: every hypothesis tracks its progress, and beams are shared by it.

Progress on a phrase is how many of its tokens were just matched (an automaton, so that
overlaps count), and stays once it is complete. What a beam still needs is the number of
tokens that would complete everything: all of its unmet phrases, less what the furthest
of them has. Candidates that need more than the budget has left are dropped, and so is
an eos while anything is unmet: what is returned holds every phrase.

The K beams are dealt to the banks of equal need: the best of each bank, the bank that
needs least first, then the second best of each, and so on.

Reference: Post and Vilar, Fast Lexically Constrained Decoding with Dynamic Beam
Allocation, 2018, arXiv 1804.06609.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import replace
from jaxdecode.decode.beam.choosing import is_eos, is_full, unfinished
from jaxdecode.decode.beam.state import BeamCandidates, Phrases, Search, take_columns
from jaxdecode.sampling.order import top_k


def as_phrases(
    who: str, required: Any, count: int, vocab_size: int
) -> tuple[Phrases, np.ndarray] | None:
    """Return the phrases of each prompt and how many tokens they have together.

    Args:
      who: the function asking, for the messages.
      required: phrases (token lists) for all prompts, or one list of phrases per
        prompt; None or empty asks for nothing.
      count: number of prompts.
      vocab_size: V.

    Raises:
      TypeError: if a token is not an integer.
      ValueError: for an empty phrase, an id outside the vocabulary, or a wrong number
        of lists.
    """
    if required is None or not len(required):
        return None
    sets = list(required) if _is_per_prompt(required) else [required] * count
    if len(sets) != count:
        raise ValueError(
            f"{who}: `required` must be phrases, or one list of phrases per prompt "
            f"({count}), got {len(sets)} lists."
        )
    sets = [[_phrase(who, phrase, vocab_size) for phrase in one] for one in sets]
    many = max(1, *(len(one) for one in sets))
    longest = max([len(phrase) for one in sets for phrase in one], default=1)
    tokens = np.full((count, many, longest), -1, np.int32)
    lengths = np.zeros((count, many), np.int32)
    borders = np.zeros((count, many, longest + 1, longest + 1), bool)
    for row, one in enumerate(sets):
        for slot, phrase in enumerate(one):
            tokens[row, slot, : len(phrase)] = phrase
            lengths[row, slot] = len(phrase)
            for i in range(len(phrase) + 1):
                for j in range(i + 1):
                    borders[row, slot, i, j] = phrase[:j] == phrase[i - j : i]
    return Phrases(tokens, lengths, borders), lengths.sum(axis=1)


def constrained_candidates(
    search: Search, rows: jax.Array, totals: jax.Array, keys: Any
) -> tuple[BeamCandidates, jax.Array]:
    """Return the candidates of each row and the K that its beams become.

    The candidates are each beam's C best tokens and the tokens that take one of its
    unmet phrases further.
    """
    del keys
    tokens, known = _candidate_tokens(search, totals)  # [N, K, C + P]
    shape = (tokens.shape[0], -1)
    at = jnp.where(known, tokens, 0)
    parents = jnp.broadcast_to(
        jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :, None], tokens.shape
    )
    values = jnp.where(known, jnp.take_along_axis(totals, at, axis=2), -jnp.inf)
    parents, tokens = parents.reshape(shape), at.reshape(shape)
    progress = advance(
        search.phrases, take_columns(search.progress, parents), tokens
    )  # [N, C, P]
    need = tokens_needed(search.phrases, progress)
    left = search.asked.budget - search.step - 1
    ends = is_eos(search, tokens)
    possible = (need <= left[:, None]) & ~(ends & (need > 0))
    found = BeamCandidates(
        values=jnp.where(possible, values.reshape(shape), -jnp.inf),
        parents=parents,
        tokens=tokens,
        logprobs=jnp.take_along_axis(rows, at, axis=2).reshape(shape),
        is_eos=ends,
        is_last=ends | is_full(search)[:, None],
        may_finish=possible,
        progress=progress,
    )
    among = jnp.where(need == 0, found.values, -jnp.inf)
    high = _rank(among, jnp.zeros_like(need)) < search.plan.beams
    found = replace(found, may_finish=(need == 0) & high)
    return found, _deal(unfinished(found), need, search.plan.beams)


def tokens_needed(phrases: Any, progress: jax.Array) -> jax.Array:
    """Return how many tokens complete what is unmet, int32 [N, C].

    All unmet phrases from the start, less the furthest one's matched part: finishing
    that one first, then the others one by one, always works.
    """
    lengths = phrases.lengths[:, None]
    unmet = progress < lengths
    begun = jnp.max(jnp.where(unmet, progress, 0), axis=2)
    return jnp.sum(jnp.where(unmet, lengths, 0), axis=2) - begun


def advance(phrases: Any, progress: jax.Array, tokens: jax.Array) -> jax.Array:
    """Return the progress [N, C, P] after one more token [N, C]."""

    def one(row: Phrases, progress, token):
        # All borders of the matched part that the token extends; the longest counts.
        borders = jax.vmap(lambda table, i: table[i])(row.borders, progress)
        reached = borders[:, :-1] & (row.tokens == token)
        lengths = jnp.arange(1, row.tokens.shape[1] + 1, dtype=jnp.int32)
        after = jnp.max(jnp.where(reached, lengths[None], 0), axis=1)
        return jnp.where(progress >= row.lengths, progress, after)

    over_candidates = jax.vmap(one, in_axes=(None, 0, 0))
    return jax.vmap(over_candidates)(phrases, progress, tokens)


def _candidate_tokens(search: Search, totals: jax.Array):
    """Return each beam's candidate tokens [N, K, C + P], and which of them count."""
    size = min(search.plan.candidates, totals.shape[2])

    def best_of(row):
        return top_k(row, size, platform=search.plan.platform)[1].astype(jnp.int32)

    best = jax.vmap(jax.vmap(best_of))(totals)
    phrases: Any = search.phrases
    at = jnp.minimum(search.progress, phrases.tokens.shape[2] - 1)
    wanted = jax.vmap(
        lambda table, beams: jax.vmap(
            lambda beam: jax.vmap(lambda phrase, i: phrase[i])(table, beam)
        )(beams)
    )(phrases.tokens, at)  # [N, K, P]
    unmet = search.progress < phrases.lengths[:, None]
    slots = jnp.arange(wanted.shape[2])
    earlier = slots[None, :] < slots[:, None]
    twice = (wanted[..., :, None] == wanted[..., None, :]) & unmet[..., None, :]
    new = unmet & ~jnp.any(twice & earlier[None, None], axis=3)
    new &= ~jnp.any(wanted[..., :, None] == best[..., None, :], axis=3)
    known = jnp.concatenate([jnp.ones(best.shape, bool), new], axis=2)
    return jnp.concatenate([best, wanted], axis=2), known


def _rank(values: jax.Array, banks: jax.Array) -> jax.Array:
    """Return how many candidates of the same bank stand before each, int32 [N, C]."""
    slots = jnp.arange(values.shape[1])
    tied = (values[:, None, :] == values[:, :, None]) & (
        slots[None, :] < slots[:, None]
    )[None]
    before = (values[:, None, :] > values[:, :, None]) | tied
    same = banks[:, None, :] == banks[:, :, None]
    return jnp.sum((before & same).astype(jnp.int32), axis=2)


def _deal(values: jax.Array, need: jax.Array, beams: int) -> jax.Array:
    """Return the candidates dealt to the beams: by rank in the bank, least need first."""
    rank = _rank(values, need)
    largest = jnp.int32(2**30)
    order = rank * (jnp.max(need) + 1) + need
    order = jnp.where(values > -jnp.inf, order, largest)
    return jax.lax.top_k(-order, beams)[1]


def _is_per_prompt(required: Any) -> bool:
    """Whether these are lists of phrases, rather than phrases."""
    lists = [item for item in required if _is_list(item)]
    return any(_is_list(inner) for item in lists for inner in item)


def _is_list(item: Any) -> bool:
    if isinstance(item, np.ndarray):
        return item.ndim > 0
    return isinstance(item, Sequence) and not isinstance(item, str)


def _phrase(who: str, phrase: Any, vocab_size: int) -> list[int]:
    if not _is_list(phrase):
        raise TypeError(
            f"{who}: `required` must be phrases, each a list of token ids, "
            f"got {check.short(phrase)}."
        )
    ids = [check.token_id(who, "required", token) for token in phrase]
    if not ids:
        raise ValueError(f"{who}: `required` must hold no empty phrase, got [].")
    check.in_vocabulary(who, "required", np.asarray(ids, np.int32), vocab_size)
    return ids
