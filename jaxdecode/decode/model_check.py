"""What is asked of a model before anything compiles, from shapes alone.

A model of somebody else is called once, abstractly, the first time its structure is
seen. What only numbers can show is in `jaxdecode.testing.check_model`.
"""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.protocol import ModelError
from jaxdecode.decode.programs import combine, partition
from jaxdecode.decode.recompiling import note_structure

ABILITIES = ("vocab_size", "max_length", "init_cache", "__call__")
ROWS, COLUMNS = 2, 16  # of the call that is tried
KNOWN_MAX = 64

_known: dict[Hashable, None] = {}


def check_model(who: str, model: Any, name: str = "model") -> None:
    """Refuse an object that is not a `Model`, as far as shapes can tell.

    Args:
      who: the function that was called, for the messages.
      model: what it was given.
      name: the argument, for the messages.

    Raises:
      TypeError: if something that the protocol asks for is missing.
      ValueError: if the cache or the logits have another shape than they must.
    """
    for ability in ABILITIES:
        if isinstance(model, type) or not hasattr(model, ability):
            raise TypeError(
                f"{who}: `{name}` must have vocab_size, max_length, init_cache and "
                f"__call__ (see jaxdecode.Model); {type(model).__name__} has no "
                f"{ability}. jaxdecode.from_function, from_single, from_linen and "
                "from_logits_function wrap what you have."
            )
    if getattr(model, "keeps_protocol", False):
        return
    arrays, structure = partition(model)
    key = structure, tuple((leaf.shape, jnp.dtype(leaf.dtype)) for leaf in arrays)
    if key in _known:
        return
    try:
        _try(arrays, structure)
    except ModelError as error:
        raise type(error)(f"{who}: `{name}`: {error}") from None
    while len(_known) >= KNOWN_MAX:
        del _known[next(iter(_known))]
    _known[key] = None
    note_structure(who, *key)


def _try(arrays: list[Any], structure: Any) -> None:
    model = combine(arrays, structure)
    vocab, length = model.vocab_size, min(2 * COLUMNS, model.max_length)
    columns = min(COLUMNS, length)

    def start(arrays):
        return combine(arrays, structure).init_cache(ROWS, length)

    def call(arrays, cache):
        model = combine(arrays, structure)
        tokens = jnp.zeros((ROWS, columns), jnp.int32)
        places = jnp.broadcast_to(jnp.arange(columns, dtype=jnp.int32), tokens.shape)
        return model(tokens, places, cache, at=jnp.zeros((ROWS,), jnp.int32))

    cache = jax.eval_shape(start, arrays)
    _check_rows(cache)
    try:
        found = jax.eval_shape(call, arrays, cache)
    except TypeError as error:
        if "unexpected keyword argument 'at'" not in str(error):
            raise
        raise ModelError(
            "a call must take `at`, the one column of each row whose logits are "
            "needed; jaxdecode.from_function adds it."
        ) from error
    if not isinstance(found, tuple) or len(found) != 2:
        raise ModelError(
            f"a call must return (logits, cache), got {type(found).__name__}."
        )
    _check_logits(found[0], (ROWS, vocab), columns)
    _check_same(cache, found[1])


def _check_rows(cache: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(cache):
        if leaf.shape[:1] != (ROWS,):
            raise ModelError(
                "every leaf of the cache must have the row axis first "
                f"({ROWS} rows), got shape {leaf.shape} at "
                f"cache{jax.tree_util.keystr(path)}; jaxdecode.from_single takes a "
                "function of one row with any layout."
            )


def _check_logits(logits: Any, wanted: tuple[int, int], columns: int) -> None:
    shape = getattr(logits, "shape", None)
    if shape == (wanted[0], columns, wanted[1]):
        raise ModelError(
            f"with `at` the logits must be of one column, {wanted}, got {shape}: `at` "
            "is ignored; jaxdecode.from_function picks the column."
        )
    if shape is not None and shape[:-1] == wanted[:1] and shape != wanted:
        raise ModelError(
            f"the logits must have vocab_size = {wanted[1]} entries, got {shape[-1]}."
        )
    if shape != wanted:
        raise ModelError(f"with `at` the logits must be {wanted}, got {shape}.")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ModelError(f"the logits must be floating-point, got {logits.dtype}.")


def _check_same(before: Any, after: Any) -> None:
    old, structure = jax.tree_util.tree_flatten_with_path(before)
    new, other = jax.tree_util.tree_flatten_with_path(after)
    if structure != other:
        raise ModelError(
            f"a call must return a cache built like the one it was given, {structure}, "
            f"got {other}."
        )
    for (path, a), (_, b) in zip(old, new, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise ModelError(
                "a call must return a cache of the same shapes and types, "
                f"{a.dtype}{list(a.shape)} at cache{jax.tree_util.keystr(path)}, "
                f"got {b.dtype}{list(b.shape)}."
            )
