"""Checks on the host: each value is checked once, where the caller gave it.

Every message says who, which argument, which rule and what it got. A Python float, an
`np.float32` and an integer would be three entries in JAX's compilation cache, so each
check also casts the value to `np.float32` or `np.int32`. A value known only by shape and
type (a tracer, a `jax.ShapeDtypeStruct`) is cast; one that turns out to be out of range
in a program is replaced there by a mark, NaN or `NO_INTEGER`, and rows with a mark draw
nothing (`is_marked`).
"""

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdecode.core.pytree import assign
from jaxdecode.core.shapes import NO_ID

SEED_MAX = 2**32 - 1
_INT32 = np.iinfo(np.int32)
NO_INTEGER = _INT32.min


def within(
    node: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    infinite: bool = False,
    **named: Any,
) -> None:
    """Check real parameters of `node` against a range and store them as float32.

    Args:
      node: the object being built; errors name its class.
      low: smallest allowed value.
      high: largest allowed value.
      low_open: whether `low` itself is not allowed.
      infinite: whether infinities inside the range are allowed.
      **named: the parameters, a number or one per row.

    Raises:
      TypeError: for a string, a boolean, None or an object that is not a number.
      ValueError: for NaN, a value out of range, or more than one axis.
    """
    bounds = {"low": low, "high": high, "low_open": low_open, "infinite": infinite}
    for name, value in named.items():
        assign(node, name, real(type(node).__name__, name, value, **bounds))


def real(
    who: str,
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    infinite: bool = False,
) -> Any:
    """Return `value`, a number or one per row, as float32 in a range (see `within`)."""
    array = numeric(who, name, value, np.float32)
    if isinstance(array, jax.ShapeDtypeStruct):
        return array
    bad = (array != array) | (array < low) | (array > high)
    if low_open:
        bad |= array == low
    if not infinite:
        bad |= abs(array) == math.inf
    if isinstance(array, Tracer):
        array = jnp.where(bad, jnp.float32(math.nan), array)
    else:
        _refuse(who, name, _range_rule(low, high, low_open), array, bad, value)
    return array


def integers(node: Any, *, low: int = _INT32.min, high: int = _INT32.max, **named: Any):
    """Check whole-number parameters of `node` against a range and store them as int32.

    Args:
      node: the object being built; errors name its class.
      low: smallest allowed value.
      high: largest allowed value.
      **named: the parameters, an integer or one per row.

    Raises:
      TypeError: for anything that is not an integer; 2.0 is not.
      ValueError: for a value out of range, or more than one axis.
    """
    who = type(node).__name__
    for name, value in named.items():
        assign(node, name, whole(who, name, value, low=low, high=high))


def whole(
    who: str, name: str, value: Any, *, low: int = _INT32.min, high: int = _INT32.max
) -> Any:
    """Return `value`, an integer or one per row, as int32 within [low, high]."""
    array = numeric(who, name, value, np.int32)
    if isinstance(array, np.ndarray):
        array_64 = np.asarray(value)
        bad = (array_64 < low) | (array_64 > high)
        _refuse(who, name, _range_rule(low, high, False), array_64, bad, value)
    elif isinstance(array, Tracer):
        bad = (array < low) | (array > high)
        array = jnp.where(bad, jnp.int32(NO_INTEGER), array)
    return array


def is_marked(value: Any) -> Any:
    """Whether each number stands for one that was out of range in a program."""
    whole = jnp.issubdtype(value.dtype, jnp.integer)
    return value == NO_INTEGER if whole else value != value


def token_ids(who: str, name: str, value: Any, *, empty: bool = True) -> np.ndarray:
    """Return token ids as a sorted int32 vector without repeats.

    Args:
      who: the class or function, for the message.
      name: the argument, for the message.
      value: one id or a sequence of ids; None means no ids.
      empty: whether the result may be empty.

    Raises:
      TypeError: for an id that is not an integer.
      ValueError: for a negative id, one beyond int32, or no ids where some are needed.
    """
    if value is None:
        value = ()
    items = [value] if isinstance(value, numbers.Integral) else value
    if isinstance(items, (str, bytes, dict)) or not _iterable(items):
        raise TypeError(f"{who}: `{name}` must be token ids, got {short(value)}.")
    ids = sorted({token_id(who, name, item) for item in items})
    if not ids and not empty:
        raise ValueError(f"{who}: `{name}` must hold at least one token id, got none.")
    return np.asarray(ids, np.int32)


def token_id(who: str, name: str, value: Any) -> int:
    """Return one token id as an int.

    Raises:
      TypeError: if it is not an integer.
      ValueError: if it is negative, or 2**31 - 1 (which marks padding) or more.
    """
    if isinstance(value, bool) or not isinstance(value, (numbers.Integral, np.ndarray)):
        kind = type(value).__name__
        raise TypeError(
            f"{who}: `{name}` must be integers, got {short(value)} ({kind})."
        )
    if isinstance(value, np.ndarray) and not (
        value.ndim == 0 and np.issubdtype(value.dtype, np.integer)
    ):
        raise TypeError(f"{who}: `{name}` must be integers, got {short(value)}.")
    if not 0 <= int(value) < NO_ID:
        raise ValueError(
            f"{who}: `{name}` must be >= 0 and < 2**31 - 1, got {int(value)}."
        )
    return int(value)


def in_vocabulary(who: str, name: str, ids: np.ndarray, vocab_size: int) -> None:
    """Refuse ids outside the vocabulary.

    A gather would clamp them and a scatter would drop them, both silently.
    """
    if isinstance(ids, np.ndarray) and ids.size and int(ids.max()) >= vocab_size:
        raise ValueError(
            f"{who}: `{name}` must be token ids below the vocabulary size "
            f"{vocab_size}, got {int(ids.max())}."
        )


def seed(who: str, value: Any) -> int:
    """Return a seed in [0, 2**32 - 1]; JAX would wrap a larger one to a small one."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{who}: a seed must be an integer, got {short(value)}.")
    if not 0 <= int(value) <= SEED_MAX:
        raise ValueError(f"{who}: a seed must be in [0, {SEED_MAX}], got {value}.")
    return int(value)


def flag(who: str, name: str, value: Any) -> Any:
    """Return a boolean, or one per row, as numpy bools."""
    if is_traced(value):
        return value
    array = np.asarray(value)
    if array.dtype != np.bool_ or array.ndim > 1:
        raise TypeError(
            f"{who}: `{name}` must be True or False, or one per row, "
            f"got {short(value)} ({type(value).__name__})."
        )
    return array


def choice(who: str, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a value that is not one of `allowed`."""
    if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
        names = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"{who}: `{name}` must be one of {names}, got {short(value)}.")


def names(who: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an argument that a function does not have.

    Args:
      who: the function, for the message.
      given: the names of the arguments.
      known: the names that it has.

    Raises:
      TypeError: for an unknown name, with the nearest one that is known.
    """
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean `{near[0]}`?" if near else "."
            raise TypeError(
                f"{who}: arguments must be among {', '.join(known)}, got `{name}`{hint}"
            )


def is_traced(value: Any) -> bool:
    """Whether only the shape and type of a value are known, not its numbers."""
    return isinstance(value, (Tracer, jax.ShapeDtypeStruct))


def numeric(who: str, name: str, value: Any, dtype: Any) -> Any:
    """Return a number, or a vector with one per row, as `dtype`.

    A value known only by shape and type is cast and not checked.

    Raises:
      TypeError: if it is not a number of that kind; a boolean is not.
      ValueError: for more than one axis.
    """
    if isinstance(value, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(value.shape, dtype, sharding=value.sharding)
    if is_traced(value):
        return jnp.asarray(value).astype(dtype)
    kind = "integer" if np.issubdtype(dtype, np.integer) else "number"
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        array = np.asarray(None)
    letters = "iu" if kind == "integer" else "iuf"
    if array.dtype == jnp.bfloat16:
        array = array.astype(np.float32)
    if array.dtype.kind not in letters or (array.size == 0):
        raise TypeError(
            f"{who}: `{name}` must be {_a(kind)} or one per row, got {short(value)} "
            f"({type(value).__name__})."
        )
    if array.ndim > 1:
        raise ValueError(
            f"{who}: `{name}` must be one number or one per row, got shape {array.shape}."
        )
    with np.errstate(over="ignore"):  # a number too large for float32 becomes inf
        return array.astype(dtype)


def short(value: Any) -> str:
    """Return a value as text for a message, at most 60 characters long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse(who, name, rule, array, bad, value) -> None:
    if not bad.any():
        return
    if array.ndim == 0:
        got = short(value)
    else:
        at = int(np.flatnonzero(bad)[0])
        got = f"{array[at]} for row {at}"
    raise ValueError(f"{who}: `{name}` must be {rule}, got {got}.")


def _range_rule(low: float, high: float, low_open: bool) -> str:
    if math.isinf(low) and math.isinf(high):
        return "finite"
    if high in (math.inf, _INT32.max):
        return f"{'>' if low_open else '>='} {low:g}"
    return f"in {'(' if low_open else '['}{low:g}, {high:g}]"


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _iterable(value: Any) -> bool:
    try:
        iter(value)
    except TypeError:
        return False
    return True
