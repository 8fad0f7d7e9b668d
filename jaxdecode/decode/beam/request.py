"""From what a person typed to what the search takes: checked before anything compiles."""

import dataclasses
from typing import Any, TypedDict

import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.protocol import Model
from jaxdecode.core.rows import repeat_rows
from jaxdecode.core.shapes import (
    INT32_MAX,
    NO_ID,
    KeyLike,
    PerRow,
    PhraseLists,
    TokenIds,
    TokenLists,
)
from jaxdecode.decode.beam import caches
from jaxdecode.decode.beam.constraints import as_phrases
from jaxdecode.decode.beam.scoring import ScoreOfLength, Scoring, as_scoring, per_row
from jaxdecode.decode.beam.state import EARLY, Plan, Search
from jaxdecode.decode.prompts import Prompts, as_prompts
from jaxdecode.decode.request import count_of, prepare
from jaxdecode.native import current_platform
from jaxdecode.transforms import Chain, Edit, Link, Scale, chain


class Options(TypedDict, total=False):
    """What a search may be asked for beyond prompts and beams.

    `jaxdecode.beam_search` says what each of them means; its defaults are theirs.
    """

    max_new_tokens: PerRow
    length_penalty: PerRow
    early_stopping: bool | str
    num_return: int
    eos_ids: TokenIds | None
    pad_id: int
    scoring: Scoring | ScoreOfLength | None
    groups: int
    diversity: PerRow
    required: PhraseLists | None
    renormalize: bool
    memory: str
    new_tokens_max: int | None
    wide: bool


DEFAULTS = Options(
    max_new_tokens=64,
    length_penalty=1.0,
    early_stopping=False,
    num_return=1,
    eos_ids=None,
    pad_id=0,
    scoring=None,
    groups=1,
    diversity=0.0,
    required=None,
    renormalize=False,
    memory="auto",
    new_tokens_max=None,
    wide=False,
)


@dataclasses.dataclass(frozen=True)
class BeamRequest:
    """A checked call.

    Attributes:
      prompts: B of them.
      search: what was asked for, not started.
      pad_id: what fills the columns after the end of a hypothesis.
      width: how many columns of the result are wanted.
      num_return: how many hypotheses of a prompt are wanted.
    """

    prompts: Prompts
    search: Search
    pad_id: Any
    width: int
    num_return: int


def prepare_search(
    who: str,
    model: Model,
    prompts: TokenLists,
    num_beams: int,
    links: Chain,
    options: Options,
    *,
    key: KeyLike | None = None,
    spare_beams: int = 0,
    allowed: tuple[str, ...] = tuple(DEFAULTS),
) -> BeamRequest:
    """Check the arguments of a search and put them in the shapes of a compiled run.

    Args:
      who: the function that was called, for the messages.
      model: the model.
      prompts: as in `beam_search`.
      num_beams: as in `beam_search`.
      links: what acts on the log-probs.
      options: those given; the others take their defaults.
      key: what draws come from, or None for a search that draws nothing.
      spare_beams: how many beams run beside those asked for.
      allowed: names of options that this search has.

    Raises:
      TypeError: for an argument of the wrong kind.
      ValueError: for a value out of range.
    """
    check.names(who, options, allowed)
    asked: dict[str, Any] = {**DEFAULTS, **options}
    vocab_size = model.vocab_size
    wide = _switch(who, "wide", asked["wide"])
    beams = check_beams(who, num_beams, vocab_size, wide=wide, spare_beams=spare_beams)
    returned = _up_to_beams(who, asked["num_return"], beams)
    groups = count_of(who, "groups", asked["groups"])
    if beams % groups:
        raise ValueError(
            f"{who}: `groups` must divide `num_beams` ({beams}), got {groups}."
        )
    check.choice(who, "early_stopping", asked["early_stopping"], tuple(EARLY))
    check_memory(who, model, asked["memory"])
    read = as_prompts(who, prompts, vocab_size, model.max_length)
    count = read.tokens.shape[0]
    scoring = as_scoring(who, asked["scoring"], asked["length_penalty"])
    phrases = _phrases(who, asked, count, groups, vocab_size)
    names = ("max_new_tokens", "eos_ids", "pad_id", "new_tokens_max")
    common: Any = {name: asked[name] for name in names}
    request = prepare(who, model, read, key, {"sampler": links} | common)
    per_group = beams // groups
    search = Search(
        asked=repeat_rows(request.rows, groups),
        rows=repeat_rows(request.rows, beams),
        scoring=per_row(who, scoring, count, groups),
        early=np.int32(EARLY[asked["early_stopping"]]),
        diversity=_diversity(who, asked["diversity"], count),
        phrases=phrases,
        plan=Plan(
            beams=per_group,
            groups=groups,
            candidates=candidates_of(per_group, request.rows.ends, vocab_size),
            steps_max=request.new_tokens_max,
            sampled=key is not None,
            renormalize=_switch(who, "renormalize", asked["renormalize"]),
            memory=asked["memory"],
            platform=current_platform(),
        ),
    )
    pad_id, width = request.pad_id, request.width
    return BeamRequest(read, search, pad_id, width, returned)


def _up_to_beams(who: str, value: Any, beams: int) -> int:
    returned = count_of(who, "num_return", value)
    if returned > beams:
        raise ValueError(
            f"{who}: `num_return` must be <= `num_beams` ({beams}), got {returned}."
        )
    return returned


def check_beams(
    who: str,
    num_beams: Any,
    vocab_size: int,
    *,
    wide: bool = False,
    spare_beams: int = 0,
) -> int:
    """Return the number of beams, refusing what the vocabulary cannot fill."""
    beams = count_of(who, "num_beams", num_beams)
    most = vocab_size - spare_beams
    if beams > most and not wide:
        raise ValueError(
            f"{who}: `num_beams` must be in [1, {most}] for a vocabulary of "
            f"{vocab_size}, as one step cannot fill more (wide=True allows them), "
            f"got {beams}."
        )
    beams += spare_beams
    if beams * vocab_size > INT32_MAX:
        raise ValueError(
            f"{who}: `num_beams` * vocabulary size must be <= {INT32_MAX}, "
            f"got {beams} * {vocab_size}."
        )
    return beams


def check_memory(who: str, model: Any, kind: Any) -> None:
    """Refuse an unknown kind of memory, or a shared one that the model cannot keep."""
    check.choice(who, "memory", kind, caches.KINDS)
    if kind == "shared" and not caches.can_share(model):
        raise ValueError(
            f"{who}: `memory` must be 'whole' or 'auto' for a model that does not share "
            f"prompts (share_prompts), got 'shared' with {type(model).__name__}."
        )


def as_edits(who: str, edits: Link | Chain | None) -> Chain:
    """Return the chain of `edits`, refusing links that a search cannot honour."""
    links = chain() if edits is None else chain(edits)
    for link in links.links:
        if not isinstance(link, (Edit, Scale)):
            raise TypeError(
                f"{who}: `edits` must be edits, got {type(link).__name__}; truncations "
                "go with a draw, in beam_sample."
            )
        if link.stochastic:
            raise TypeError(
                f"{who}: `edits` must not draw, got {type(link).__name__}; links that "
                "draw go with a key, in beam_sample."
            )
    return links


def candidates_of(beams: int, eos_ids: Any, vocab_size: int) -> int:
    """Return how many candidates leave K that go on, whatever number of eos there is."""
    if check.is_traced(eos_ids):
        many = int(eos_ids.shape[1])
    else:  # all rows have the same
        many = int(np.sum(np.asarray(eos_ids)[0] != NO_ID))
    return min(max(2, 1 + many) * beams, beams * vocab_size)


def _phrases(who: str, asked: dict[str, Any], count: int, groups: int, vocab_size: int):
    found = as_phrases(who, asked["required"], count, vocab_size)
    if found is None:
        return None
    if groups > 1:
        raise ValueError(f"{who}: `groups` must be 1 with `required`, got {groups}.")
    phrases, sizes = found
    budgets = check.whole(who, "max_new_tokens", asked["max_new_tokens"], low=1)
    if not check.is_traced(budgets) and np.size(budgets) in (1, count):
        room = np.broadcast_to(budgets, (count,))
        if (sizes > room).any():
            row = int(np.argmax(sizes > room))
            raise ValueError(
                f"{who}: `required` must fit into `max_new_tokens` ({room[row]}), "
                f"got {sizes[row]} tokens for prompt {row}."
            )
    if not check.is_traced(asked["eos_ids"]):
        both = np.intersect1d(
            phrases.tokens, check.token_ids(who, "eos_ids", asked["eos_ids"])
        )
        if both.size:
            raise ValueError(
                f"{who}: `required` must not hold an eos, got {int(both[0])}."
            )
    return phrases


def _diversity(who: str, value: Any, count: int) -> Any:
    array = check.numeric(who, "diversity", value, np.float32)
    if isinstance(array, np.ndarray) and not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError(
            f"{who}: `diversity` must be >= 0 and finite, got {check.short(value)}."
        )
    if np.ndim(array) and np.shape(array) != (count,):
        raise ValueError(
            f"{who}: `diversity` must be a number or one per prompt ({count}), "
            f"got {np.shape(array)[0]}."
        )
    of = jnp if check.is_traced(array) else np
    return of.broadcast_to(array, (count,))


def _switch(who: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"{who}: `{name}` must be True or False, got {check.short(value)} "
            f"({type(value).__name__})."
        )
    return bool(value)
