"""Prompts as other libraries hand them over: ids in a rectangle, and a mask of the real.

Tokenizers pad on the left for generation and on the right for training. Here column is
position, so rows are moved to the left edge and their lengths say where they end.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check


def prompts(input_ids: Any, attention_mask: Any = None) -> tuple[Any, Any]:
    """Return padded ids as a pair (tokens, lengths), which `generate` takes as prompts.

    Args:
      input_ids: integers [B, P], padded on the left or on the right; numpy, JAX or torch
        arrays (on CPU), or lists. May be traced.
      attention_mask: [B, P], 1 or True where a token is real, one run of them in each
        row; None is everywhere. In a traced row with several runs the length is 0, and
        the row ends with `Status.INVALID`.

    Returns:
      int32 tokens [B, P], each row moved to the left edge, and int32 lengths [B].

    Raises:
      TypeError: for ids that are not integers.
      ValueError: for other shapes, or a mask that is neither left- nor right-padded.
    """
    return as_pair("prompts", input_ids, attention_mask)


def pair_of_mapping(who: str, name: str, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what a tokenizer's `{"input_ids": ..., "attention_mask": ...}` holds.

    Raises:
      TypeError: if there are no ids, or other inputs that would be ignored.
    """
    known = {"input_ids", "attention_mask", "token_type_ids"}
    if "input_ids" not in given or not known >= set(given):
        raise TypeError(
            f"{who}: `{name}` must hold input_ids and attention_mask, "
            f"got {sorted(map(str, given))}."
        )
    return as_pair(who, given["input_ids"], given.get("attention_mask"), name=name)


def as_pair(
    who: str, input_ids: Any, attention_mask: Any, *, name: str = "input_ids"
) -> tuple[Any, Any]:
    """Do what `prompts` does, for the function `who` and its argument `name`."""
    traced = check.is_traced(input_ids) or check.is_traced(attention_mask)
    of = jnp if traced else np
    ids = _array(who, name, input_ids, of)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{who}: `{name}` must hold integers, got {ids.dtype}.")
    if ids.ndim != 2:
        raise ValueError(f"{who}: `{name}` must be [B, P], got shape {ids.shape}.")
    if attention_mask is None:
        return ids.astype(np.int32), of.full(ids.shape[:1], ids.shape[1], np.int32)
    mask = _array(who, "attention_mask", attention_mask, of)
    if mask.shape != ids.shape:
        raise ValueError(
            f"{who}: `attention_mask` must have the shape of the ids, {ids.shape}, "
            f"got {mask.shape}."
        )
    mask: Any = mask != 0
    first, length = of.argmax(mask, axis=1), of.sum(mask, axis=1)
    columns = of.arange(ids.shape[1])[None, :]
    run = (columns >= first[:, None]) & (columns < (first + length)[:, None])
    whole: Any = of.all(run == mask, axis=1)
    if not traced:
        _check_edges(who, mask, whole)
    source: Any = of.minimum(columns + first[:, None], ids.shape[1] - 1)
    tokens = of.take_along_axis(ids, source, axis=1)
    length = of.where(whole, length, 0)
    return tokens.astype(np.int32), length.astype(np.int32)


def _array(who: str, name: str, value: Any, of: Any) -> Any:
    try:
        return of.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{who}: `{name}` must be one rectangle of numbers [B, P]; prompts of "
            "different lengths are given as lists, without a mask."
        ) from error


def _check_edges(who: str, mask: np.ndarray, whole: np.ndarray) -> None:
    at_edge = mask[:, 0] | mask[:, -1] if mask.shape[1] else whole
    for row in np.flatnonzero(~(whole & at_edge)):
        shown = "".join("1" if real else "0" for real in mask[row][:40])
        raise ValueError(
            f"{who}: `attention_mask` must be padded on the left or on the right of a "
            f"row, got {shown} in row {row}."
        )
