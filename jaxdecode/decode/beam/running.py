"""From the prompts' end to the search's: the loop of every kind of beams.

Knows how many columns a step reads: of a cache that beams share, those that they added;
of a cache with a row per beam, those of the longest row.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model, for_platform
from jaxdecode.decode.beam.caches import can_share
from jaxdecode.decode.beam.state import Search
from jaxdecode.decode.beam.steps import any_open, start, step
from jaxdecode.decode.loops import Stages, drive_by_stages, stages_that_pay
from jaxdecode.decode.prompts import Prompts

S = TypeVar("S")


def search_through(model: Model, prompts: Prompts, search: Search) -> Search:
    """Read the prompts and search until nothing is open."""
    search = start(for_platform(model, search.plan.platform), prompts, search)
    return run_to_the_end(model, search, step, lambda search: search)


def run_to_the_end(
    model: Model,
    state: S,
    step: Callable[[Model, S], S],
    search_of: Callable[[S], Search],
) -> S:
    """Repeat a step while something is searched, through the platform's stages.

    Args:
      model: the model.
      state: of the search, its prompts read.
      step: brings every beam one token further.
      search_of: from a state to what it shares with a beam search.
    """
    plan = search_of(state).plan

    def one(state: S, platform: Platform) -> S:
        return step(for_platform(model, platform), state)

    return drive_by_stages(
        one,
        state,
        lambda state: any_open(search_of(state)),
        _stages(model, search_of(state), search_of),
        platform=plan.platform,
    )


def _stages(
    model: Model, search: Search, search_of: Callable[[Any], Search]
) -> Stages[Any]:
    plan, rows = search.plan, search.rows
    columns, beams = rows.tokens.shape[1], plan.prompt_beams

    def longest(state: Any) -> jax.Array:
        search = search_of(state)
        return jnp.max(jnp.where(search.open, search.step, 0)) * beams

    if plan.memory != "whole" and can_share(model):
        added, look = plan.steps_max * beams, plan.platform.steps_per_look * beams
        there = stages_that_pay(model, look, added, plan.platform)
        return Stages(columns=there, in_use=longest, added=beams)

    def longest_row(state: Any) -> jax.Array:
        search = search_of(state)
        lengths = search.rows.length.reshape(search.open.shape[0], -1)
        return jnp.max(jnp.where(search.open[:, None], lengths, 0))

    width = columns - plan.steps_max
    there = stages_that_pay(model, width // 2, columns, plan.platform)
    return Stages(columns=there, in_use=longest_row)
