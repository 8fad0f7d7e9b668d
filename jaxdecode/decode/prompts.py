"""Prompts as the loop wants them: left-aligned, padded on the right to a bucket.

Column is position, so padding comes after each prompt and is overwritten by the first
tokens that are generated. Bad prompts are refused here, before anything compiles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree
from jaxdecode.core.shapes import bucket
from jaxdecode.decode.masks import pair_of_mapping


@pytree
class Prompts:
    """Ragged prompts in one array.

    Attributes:
      tokens: int32 [B, P], left-aligned; columns from a row's length on hold padding.
      lengths: int32 [B], each at least 1.
    """

    tokens: Any
    lengths: Any


def as_prompts(
    who: str,
    prompts: Any,
    vocab_size: int,
    max_length: int,
    *,
    name: str = "prompts",
    empty: bool = False,
) -> Prompts:
    """Return checked prompts, padded to a bucket of 16, 32, 64 ... at most `max_length`.

    Args:
      who: the function asking, for the message.
      prompts: token lists, or a pair (int32 [B, P], lengths int32 [B]); the pair may be
        traced, and is then taken as it is, unchecked and unpadded. Or what a tokenizer
        returns, a mapping of input_ids and attention_mask (see `masks.prompts`).
      vocab_size: V.
      max_length: positions the model can hold.
      name: the argument, for the message.
      empty: whether a row may have no tokens.

    Raises:
      TypeError: if a token is not an integer, or `prompts` is a string or one flat list.
      ValueError: if there is no prompt, an empty prompt, a token id outside the
        vocabulary, or a prompt that leaves no room for a new token.
    """
    if isinstance(prompts, Mapping):
        prompts = pair_of_mapping(who, name, prompts)
    if _is_pair(prompts):
        tokens, lengths = prompts
        lengths = lengths if hasattr(lengths, "ndim") else np.asarray(lengths)
        _check_pair(who, name, tokens, lengths)
        if check.is_traced(tokens) or check.is_traced(lengths):
            return Prompts(tokens.astype(jnp.int32), lengths.astype(jnp.int32))
        rows = _rows_of_pair(who, name, np.asarray(tokens), np.asarray(lengths))
    else:
        rows = _rows_of_lists(who, name, prompts)
    for index, row in enumerate(rows):
        if not (empty and row.ndim == 1 and not row.size):
            _check_row(who, name, index, row, vocab_size, max_length)
    width = bucket(max(len(row) for row in rows), high=max_length)
    padded = np.zeros((len(rows), width), np.int32)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    lengths = np.asarray([len(row) for row in rows], np.int32)
    return _placed(Prompts(padded, lengths), prompts)


def _placed(checked: Prompts, prompts: Any) -> Prompts:
    """Return prompts with their rows on the devices where those given lay."""
    place = getattr(prompts[0], "sharding", None) if _is_pair(prompts) else None
    if not isinstance(place, NamedSharding) or len(place.device_set) == 1:
        return checked
    rows = NamedSharding(place.mesh, PartitionSpec(*place.spec[:1]))
    return jax.device_put(checked, rows)


def _is_pair(prompts: Any) -> bool:
    return (
        isinstance(prompts, tuple)
        and len(prompts) == 2
        and getattr(prompts[0], "ndim", None) == 2
    )


def _check_pair(who: str, name: str, tokens: Any, lengths: Any) -> None:
    if not all(jnp.issubdtype(part.dtype, jnp.integer) for part in (tokens, lengths)):
        raise TypeError(
            f"{who}: `{name}` must be integer arrays, got {tokens.dtype} and "
            f"{lengths.dtype}."
        )
    if lengths.shape != tokens.shape[:1]:
        raise ValueError(
            f"{who}: `{name}` must be (tokens [B, P], lengths [B]), got shapes "
            f"{tokens.shape} and {lengths.shape}."
        )


def _rows_of_pair(
    who: str, name: str, tokens: np.ndarray, lengths: np.ndarray
) -> list[np.ndarray]:
    if not tokens.shape[0]:
        raise ValueError(f"{who}: `{name}` must hold at least one prompt, got none.")
    if (lengths > tokens.shape[1]).any() or (lengths < 0).any():
        raise ValueError(
            f"{who}: lengths of `{name}` must be in [1, {tokens.shape[1]}], "
            f"got {lengths.min()} to {lengths.max()}."
        )
    return [row[:length] for row, length in zip(tokens, lengths, strict=True)]


def _rows_of_lists(who: str, name: str, prompts: Any) -> list[np.ndarray]:
    if isinstance(prompts, (str, bytes)) or not isinstance(
        prompts, (Sequence, np.ndarray, jax.Array)
    ):
        raise TypeError(
            f"{who}: `{name}` must be token lists, got {check.short(prompts)}; "
            "text goes through LanguageModel.generate."
        )
    if not len(prompts):
        raise ValueError(f"{who}: `{name}` must hold at least one prompt, got none.")
    return [_as_row(who, name, index, row) for index, row in enumerate(prompts)]


def _as_row(who: str, name: str, index: int, row: Any) -> np.ndarray:
    if isinstance(row, (str, bytes)) or not isinstance(
        row, (Sequence, np.ndarray, jax.Array)
    ):
        raise TypeError(
            f"{who}: `{name}[{index}]` must be a list of token ids, got "
            f"{check.short(row)}; a single prompt is written [[...]]."
        )
    if np.ndim(row) == 0:
        raise TypeError(
            f"{who}: `{name}` must be one list of token ids per prompt, got a flat "
            "array; a single prompt is written [[...]]."
        )
    if isinstance(row, (np.ndarray, jax.Array)):
        array = np.asarray(row)
        if array.dtype.kind not in "iu":
            raise TypeError(
                f"{who}: `{name}[{index}]` must hold integers, got {array.dtype}."
            )
        return array
    place = f"{name}[{index}]"
    return np.asarray([check.token_id(who, place, token) for token in row], np.int64)


def _check_row(who, name, index, row, vocab_size, max_length) -> None:
    if row.ndim != 1 or not row.size:
        raise ValueError(f"{who}: `{name}[{index}]` must not be empty.")
    if row.min() < 0 or row.max() >= vocab_size:
        bad = row[(row < 0) | (row >= vocab_size)][0]
        raise ValueError(
            f"{who}: `{name}[{index}]` must hold token ids in [0, {vocab_size - 1}], "
            f"got {bad}."
        )
    if row.size >= max_length:
        raise ValueError(
            f"{who}: `{name}[{index}]` must be shorter than the model's {max_length} "
            f"positions, got {row.size} tokens."
        )
