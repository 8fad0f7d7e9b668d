"""Which noise a row gets: keys are named by row and position, never split in a loop.

`row_key = fold_in(keys[b], sample)` and `step_key = fold_in(row_key, position)`, where
`position` is the absolute index of the token being drawn. So a row's draws do not know
the batch, the neighbours, the padding, or where a text was cut and resumed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.shapes import Array
from jaxdecode.core.threefry import fold_in, keys_of_seeds


def prompt_keys(who: str, key: Any, rows: int, *, folds: bool = True) -> jax.Array:
    """Return one typed key per prompt, [B].

    Args:
      who: the function asking, for the message.
      key: one key (row b gets `fold_in(key, b)`), keys [B], or the same as seeds: an
        integer in [0, 2**32 - 1], or B of them in a list or an array. Seeds that are
        traced are taken modulo 2**32.
      rows: number of prompts, B.
      folds: whether other keys are derived from these.

    Raises:
      TypeError: for something that is no key and no seed.
      ValueError: for a seed out of range, a wrong number of keys, or keys of a kind
        that gives a row other noise in company than alone.
    """
    keys = _typed(who, key)
    derives = folds or keys.ndim == 0
    if derives and str(jax.random.key_impl(keys)) == "unsafe_rbg":
        raise ValueError(
            f"{who}: `key` must be of a kind whose noise does not depend on the batch, "
            "got unsafe_rbg; use threefry2x32 or rbg."
        )
    if keys.ndim == 0:
        return _fold_rows(keys, rows)
    if keys.shape != (rows,):
        raise ValueError(
            f"{who}: `key` must be one key or one per prompt ({rows}), "
            f"got shape {keys.shape}."
        )
    return keys


def sample_keys(keys: jax.Array, num_samples: int) -> jax.Array:
    """Return row keys [B * num_samples], prompt-major: `fold_in(keys[b], sample)`."""
    samples = np.tile(np.arange(num_samples, dtype=np.int32), keys.shape[0])
    return fold_in(_repeated(keys, num_samples), samples)


def _fold_rows(key: jax.Array, rows: int) -> jax.Array:
    return fold_in(_repeated(key, rows), np.arange(rows, dtype=np.int32))


def _repeated(keys: jax.Array, times: int) -> jax.Array:
    """Return each of keys [B], or one key, `times` times in a row.

    By numpy where it can be: an eager jax operation is a program of its own.
    """
    words = jax.random.key_data(keys)
    if check.is_traced(words) or not words.is_fully_addressable:
        total = keys.size * times
        return jnp.repeat(keys.reshape(-1), times, axis=0, total_repeat_length=total)
    words = jax.device_put(np.repeat(np.atleast_2d(words), times, axis=0))
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(keys))


def step_keys(row_keys: jax.Array, positions: Array) -> jax.Array:
    """Return the keys [B] of the tokens drawn at `positions` [B]."""
    return fold_in(row_keys, positions)


def no_key(who: str) -> TypeError:
    """Return the error for a function that was given None as its key."""
    return TypeError(
        f"{who}: `key` must be a jax.random.key, one per prompt, or seeds, got None."
    )


def _typed(who: str, key: Any) -> jax.Array:
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            return key
        if key.dtype == jnp.uint32 and key.ndim in (1, 2) and key.shape[-1] == 2:
            return jax.random.wrap_key_data(key)
        if jnp.issubdtype(key.dtype, jnp.integer) and check.is_traced(key):
            return _of_seeds(key.astype(jnp.uint32))
    if isinstance(key, (np.ndarray, jax.Array)) and key.ndim <= 1:
        whole = jnp.issubdtype(key.dtype, jnp.integer)
        key = np.asarray(key).tolist() if whole else key
    if isinstance(key, (list, tuple)) and key and _all_keys(key):
        return jnp.stack([_typed(who, k) for k in key])
    if isinstance(key, (list, tuple, range)) and len(key):
        seeds = np.asarray([check.seed(who, s) for s in key], np.uint32)
        return _of_seeds(seeds)
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return keys_of_seeds(np.asarray(check.seed(who, key), np.uint32))
    raise TypeError(
        f"{who}: `key` must be a jax.random.key, one per prompt, or seeds, "
        f"got {check.short(key)} ({type(key).__name__})."
    )


def _of_seeds(seeds: Any) -> jax.Array:
    if not check.is_traced(seeds):
        return keys_of_seeds(np.asarray(seeds))
    return jax.vmap(jax.random.key)(seeds) if np.ndim(seeds) else jax.random.key(seeds)


def _all_keys(items: Any) -> bool:
    return all(isinstance(item, jax.Array) for item in items)
