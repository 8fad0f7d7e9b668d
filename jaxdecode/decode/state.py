"""What the decode loop carries from token to token, and what stays fixed beside it."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.keys import step_keys
from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.status import Status
from jaxdecode.decode.observe import Wish
from jaxdecode.decode.stops import Stops
from jaxdecode.transforms import Chain, Context


@pytree
class Job:
    """What a run was asked for; R rows are prompts times samples, prompt-major.

    Attributes:
      chain: the sampler, every parameter [R].
      keys: row keys [R].
      prompt_lengths: int32 [R].
      budgets: int32 [R], how many tokens each row may draw.
      eos_ids: int32 [E], padded with an id that no vocabulary has.
      pad_id: int32.
      new_tokens_max: columns of the output. Static.
      stops: what ends a row besides an eos id, or None.
      wishes: what to observe of every step. Static.
    """

    chain: Chain
    keys: jax.Array
    prompt_lengths: jax.Array
    budgets: jax.Array
    eos_ids: jax.Array
    pad_id: jax.Array
    new_tokens_max: int = static()
    stops: Stops | None = None
    wishes: tuple[Wish, ...] = static(default=())


@pytree
class State:
    """The loop's carry.

    Attributes:
      cache: what the model remembers, leaves [R, ...].
      tokens: int32 [R, T], prompt and generated tokens; column is position.
      lengths: int32 [R], how many of them there are.
      status: int32 [R], a `Status`.
      links: the chain's states, leaves [R, ...].
      cursors: where each row stands among the stop strings, int32 [R], or ().
      logits: float32 [R, V], what the model said last.
      step: int32, how many draws were made; the same for every running row.
      model_logprobs: float32 [R, new_tokens_max].
      sampling_logprobs: float32 [R, new_tokens_max].
      observed: what was wished for, leaves [R, new_tokens_max, ...].
    """

    # -- what evolves
    cache: Any
    tokens: jax.Array
    lengths: jax.Array
    status: jax.Array
    links: Any
    cursors: Any
    logits: jax.Array
    step: jax.Array
    # -- what is emitted
    model_logprobs: jax.Array
    sampling_logprobs: jax.Array
    observed: dict[str, jax.Array]


def contexts_of(job: Job, state: State, model: Model) -> Context:
    """Return what every row knows of its past, with the key of its next token."""
    return Context(
        tokens=state.tokens,
        length=state.lengths,
        prompt_length=job.prompt_lengths,
        key=step_keys(job.keys, state.lengths),
        vocab_size=model.vocab_size,
    )


def is_running(state: State) -> jax.Array:
    """Say of each row whether it still draws, bool [R]."""
    return state.status == Status.RUNNING


def new_tokens(job: Job, state: State, width: int) -> jax.Array:
    """Return the generated tokens, left-aligned and padded, int32 [R, width]."""
    columns = jnp.arange(width)
    index = job.prompt_lengths[:, None] + columns[None, :]
    tokens = jnp.take_along_axis(
        state.tokens, jnp.minimum(index, state.tokens.shape[1] - 1), axis=1
    )
    return jnp.where(index < state.lengths[:, None], tokens, job.pad_id)
