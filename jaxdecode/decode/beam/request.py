"""From what a person typed to what the search takes: checked before anything compiles."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.protocol import Model
from jaxdecode.decode.beam import memory as memories
from jaxdecode.decode.beam.constraints import as_phrases
from jaxdecode.decode.beam.scoring import as_scoring, per_row
from jaxdecode.decode.beam.state import EARLY, BeamJob, Plan
from jaxdecode.decode.prompts import Prompts, as_prompts
from jaxdecode.decode.request import prepare
from jaxdecode.transforms import Chain, Edit, Link, Scale, chain
from jaxdecode.transforms.vocabulary import NO_ID

INT32_MAX = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Options:
    """What a search may be asked for beyond prompts and beams; see `beam_search`."""

    max_new_tokens: Any = 64
    length_penalty: Any = 1.0
    early_stopping: Any = False
    num_return: Any = 1
    eos_ids: Any = None
    pad_id: Any = 0
    scoring: Any = None
    groups: Any = 1
    diversity: Any = 0.0
    required: Any = None
    renormalize: Any = False
    memory: Any = "auto"
    new_tokens_max: int | None = None
    wide: Any = False
    spare_beams: int = 0


@dataclasses.dataclass(frozen=True)
class BeamRequest:
    """A checked call: what to read, what to do, and how much of the result is wanted."""

    prompts: Prompts
    job: BeamJob
    width: int
    num_return: int


def prepare_search(
    who: str,
    model: Model,
    prompts: Any,
    *,
    num_beams: Any,
    links: Chain,
    options: Options,
    key: Any = None,
) -> BeamRequest:
    """Check the arguments of a search and put them in the shapes of a compiled run.

    Args:
      who: the function asking, for the messages.
      model: the model.
      prompts: as in `beam_search`.
      num_beams: as in `beam_search`.
      links: what acts on the log-probs.
      options: the rest.
      key: what draws come from, or None for a search that draws nothing.

    Raises:
      TypeError: for an argument of the wrong kind.
      ValueError: for a value out of range.
    """
    beams = check_beams(who, num_beams, model.vocab_size, options)
    returned = _integer(who, "num_return", options.num_return)
    if returned > beams:
        raise ValueError(
            f"{who}: `num_return` must be <= `num_beams` ({beams}), got {returned}."
        )
    groups = _integer(who, "groups", options.groups)
    if beams % groups:
        raise ValueError(
            f"{who}: `groups` must divide `num_beams` ({beams}), got {groups}."
        )
    check.choice(who, "early_stopping", options.early_stopping, tuple(EARLY))
    check_memory(who, model, options.memory)
    scoring = as_scoring(who, options.scoring, options.length_penalty)
    read = as_prompts(who, prompts, model.vocab_size, model.max_length)
    count = read.tokens.shape[0]
    scoring = per_row(who, scoring, count, groups)
    diversity = _diversity(who, options.diversity, count)
    phrases = _phrases(who, options, count, groups, model.vocab_size)
    request = prepare(
        who,
        model,
        (read.tokens, read.lengths),
        0 if key is None else key,
        sampler=links,
        max_new_tokens=options.max_new_tokens,
        eos_ids=options.eos_ids,
        pad_id=options.pad_id,
        num_samples=beams,
        new_tokens_max=options.new_tokens_max,
    )
    plan = Plan(
        beams=beams // groups,
        groups=groups,
        candidates=candidates_of(
            beams // groups, request.job.eos_ids, model.vocab_size
        ),
        steps_max=request.job.new_tokens_max,
        sampled=key is not None,
        renormalize=_switch(who, "renormalize", options.renormalize),
        memory=options.memory,
        reads_tokens=bool(links.links) or scoring.reads_tokens,
    )
    per = beams // groups
    job = BeamJob(
        chain=request.job.chain,
        keys=None if key is None else request.job.keys[::beams],
        prompt_lengths=request.job.prompt_lengths[::per],
        budgets=request.job.budgets[::per],
        eos_ids=request.job.eos_ids,
        pad_id=request.job.pad_id,
        scoring=scoring,
        early=np.int32(EARLY[options.early_stopping]),
        diversity=diversity,
        phrases=phrases,
        plan=plan,
    )
    return BeamRequest(request.prompts, job, request.width, returned)


def check_beams(who: str, num_beams: Any, vocab_size: int, options: Options) -> int:
    """Return the number of beams, refusing what the vocabulary cannot fill."""
    beams = _integer(who, "num_beams", num_beams)
    most = vocab_size - options.spare_beams
    if beams > most and not _switch(who, "wide", options.wide):
        raise ValueError(
            f"{who}: `num_beams` must be in [1, {most}] for a vocabulary of "
            f"{vocab_size}, as one step cannot fill more (wide=True allows them), "
            f"got {beams}."
        )
    beams += options.spare_beams
    if beams * vocab_size > INT32_MAX:
        raise ValueError(
            f"{who}: `num_beams` * vocabulary size must be <= {INT32_MAX}, "
            f"got {beams} * {vocab_size}."
        )
    return beams


def check_memory(who: str, model: Any, kind: Any) -> None:
    """Refuse an unknown kind of memory, or a shared one that the model cannot keep."""
    check.choice(who, "memory", kind, memories.KINDS)
    if kind == "shared" and not memories.can_share(model):
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
        many = int(eos_ids.shape[0])
    else:
        many = int(np.sum(np.asarray(eos_ids) != NO_ID))
    return min(max(2, 1 + many) * beams, beams * vocab_size)


def _phrases(who: str, options: Options, count: int, groups: int, vocab_size: int):
    found = as_phrases(who, options.required, count, vocab_size)
    if found is None:
        return None
    if groups > 1:
        raise ValueError(f"{who}: `groups` must be 1 with `required`, got {groups}.")
    phrases, sizes = found
    budgets = check.whole(who, "max_new_tokens", options.max_new_tokens, low=1)
    if not check.is_traced(budgets) and np.size(budgets) in (1, count):
        room = np.broadcast_to(budgets, (count,))
        if (sizes > room).any():
            row = int(np.argmax(sizes > room))
            raise ValueError(
                f"{who}: `required` must fit into `max_new_tokens` ({room[row]}), "
                f"got {sizes[row]} tokens for prompt {row}."
            )
    if not check.is_traced(options.eos_ids):
        both = np.intersect1d(
            phrases.tokens, check.token_ids(who, "eos_ids", options.eos_ids)
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


def _integer(who: str, name: str, value: Any) -> int:
    if check.is_traced(value) or np.ndim(value):
        raise TypeError(
            f"{who}: `{name}` must be an integer, known outside the program, "
            f"got {check.short(value)}."
        )
    return int(check.whole(who, name, value, low=1))


def _switch(who: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"{who}: `{name}` must be True or False, got {check.short(value)} "
            f"({type(value).__name__})."
        )
    return bool(value)
