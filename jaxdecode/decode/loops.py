"""How a step is repeated: until nothing is open, so many times, or stage after stage.

    for columns in stages:                      # of a program that reads few columns
        while is_open(state) and in_use(state) + what a look adds <= columns:
            state = step(state)                 # reads so many columns
    while is_open(state):
        state = step(state)                     # reads all columns

Stages are for platforms where a token cannot choose what it reads without asking the
host. Knows no model and no rows: a step is a function of a state.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from jaxdecode.core import varying
from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import FollowsPlatform

S = TypeVar("S")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stages(Generic[S]):
    """Through which programs a loop goes before the one that reads all columns.

    Attributes:
      columns: of each stage, how many columns its steps read; ascending.
      in_use: from a state to int32, how many columns its next step needs.
      added: columns that a step adds.
    """

    columns: list[int]
    in_use: Callable[[S], jax.Array]
    added: int = 1


def stages_that_pay(model: Any, least: int, most: int, platform: Platform) -> list[int]:
    """Return the platform's stages that are worth a program of their own.

    Args:
      model: a wrapper's models may read other positions than a row's own, so that it
        has no stages.
      least: columns in use from the start.
      most: columns there are. A program that reads more than half of them saves little.
      platform: what the program is compiled for.
    """
    if not isinstance(model, FollowsPlatform):
        return []
    return [n for n in platform.stages if least < n <= most // 2]


def drive(
    step: Callable[[S], S],
    state: S,
    is_open: Callable[[S], jax.Array],
    *,
    platform: Platform,
) -> S:
    """Repeat a step while `is_open`: the one loop of every kind of decoding.

    Args:
      step: from a state to the next; it leaves what has ended as it is.
      state: the first.
      is_open: whether anything is left to do, a bool.
      platform: how many steps are taken between two such questions. Static.
    """
    state = varying.settled(step, state)
    steps = platform.steps_per_look
    body = step if steps == 1 else lambda state: repeat(step, state, steps)
    return jax.lax.while_loop(is_open, body, state)


def drive_by_stages(
    step: Callable[[S, Platform], S],
    state: S,
    is_open: Callable[[S], jax.Array],
    stages: Stages[S],
    *,
    platform: Platform,
    limit: Any = None,
) -> S:
    """Do `drive`, through the stages.

    Args:
      step: as in `drive`; it is also given for which platform it is compiled, whose
        `columns_read` it obeys.
      state: as in `drive`.
      is_open: as in `drive`.
      stages: where to go through.
      platform: as in `drive`. Static.
      limit: int32, the most steps; may be traced, asked at each step. None is no limit.
    """
    if limit is not None:
        return _limited(step, state, is_open, stages, platform, limit)
    for columns in stages.columns:
        last = columns - stages.added * (platform.steps_per_look - 1)

        def stays(state, last=last):
            return is_open(state) & (stages.in_use(state) <= last)

        short = platform.for_rows_up_to(columns)
        state = drive(lambda s, to=short: step(s, to), state, stays, platform=platform)
    return drive(lambda s: step(s, platform), state, is_open, platform=platform)


def _limited(step, state, is_open, stages: Stages, platform: Platform, limit):
    """Do the same with a count of the steps that are left beside the state."""
    counted = drive_by_stages(
        lambda c, platform: (step(c[0], platform), c[1] - 1),
        (state, jnp.asarray(limit, jnp.int32)),
        lambda c: is_open(c[0]) & (c[1] > 0),
        dataclasses.replace(stages, in_use=lambda c: stages.in_use(c[0])),
        platform=dataclasses.replace(platform, steps_per_look=1),
    )
    return counted[0]


def repeat(step: Callable[[S], S], state: S, times: int) -> S:
    """Take a fixed number of steps; differentiable in reverse if the step is."""
    state = varying.settled(step, state)
    return jax.lax.scan(lambda s, _: (step(s), None), state, None, length=times)[0]
