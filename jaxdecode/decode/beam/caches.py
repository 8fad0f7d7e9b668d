"""What the model remembers of the beams.

Either a cache with one row per beam, for any model; or one in which the model keeps each
prompt once for all its beams, so that following the parents moves no keys or values. Both
follow the parents by `core.rows.take_rows`: what belongs to a prompt is `shared()`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model, SharesPrompts
from jaxdecode.core.rows import repeat_rows
from jaxdecode.decode.prefilling import prefill
from jaxdecode.decode.prompts import Prompts

KINDS = ("auto", "shared", "whole")


def can_share(model: Any) -> bool:
    """Whether a model offers to share prompts."""
    return isinstance(model, SharesPrompts) and bool(model.shares_prompts)


def read_prompts(
    model: Model,
    prompts: Prompts,
    *,
    beams: int,
    columns: int,
    kind: str,
    platform: Platform | None = None,
) -> tuple[jax.Array, Any]:
    """Read each prompt once.

    Args:
      model: the model.
      prompts: the prompts, B of them.
      beams: beams per prompt. Static.
      columns: tokens that will be read after the prompt, at least 1. Static.
      kind: one of `KINDS`. Static.
      platform: what the program is compiled for. Static.

    Returns:
      float32 logits [B, V] of the first token, and the cache of all B * beams beams.
    """
    count, width = prompts.tokens.shape
    shares = kind != "whole" and can_share(model)
    length = width if shares else min(width + columns, model.max_length)
    empty = model.init_cache(count, length)
    logits, cache = prefill(model, prompts, empty, platform=platform)
    if shares:
        lengths = jnp.asarray(prompts.lengths)
        share: Any = model
        return logits, share.share_prompts(cache, lengths, beams=beams, columns=columns)
    return logits, repeat_rows(cache, beams)
