"""From a pattern and a vocabulary to tables, by way of what was built before."""

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdecode.core.pytree import replace
from jaxdecode.transforms.patterns import store
from jaxdecode.transforms.patterns.budgets import budgets_of
from jaxdecode.transforms.patterns.building import build
from jaxdecode.transforms.patterns.errors import NESTING_MAX, PatternError
from jaxdecode.transforms.patterns.language import Node, choices, text
from jaxdecode.transforms.patterns.lifting import lift
from jaxdecode.transforms.patterns.regex import parse
from jaxdecode.transforms.patterns.schema import schema_node
from jaxdecode.transforms.patterns.tables import Tables, resized, tables_of
from jaxdecode.transforms.patterns.trie import trie_of

VERSION = 1  # of the languages, the algorithm and the file
_TOO_DEEP = f"the pattern must be nested less deeply; {NESTING_MAX} levels are safe."
_STORED = ("masks", "chosen", "states", "follows", "classes", "text")

READERS: dict[str, Callable[[Any], Node]] = {
    "regex": parse,
    "choices": lambda texts: choices(text(value) for value in texts),
    "schema": lambda given: schema_node(given["schema"], depth=given["depth"]),
}


def check_pattern(who: str, kind: str, pattern: Any) -> None:
    """Refuse a pattern that is malformed or not supported, before there are tokens.

    Args:
      who: who was given it, for the message.
      kind: a key of `READERS`.
      pattern: a regular expression, a list of texts, or the JSON text of a schema.

    Raises:
      PatternError: saying what is wrong.
    """
    try:
        if kind == "schema":
            pattern = {"schema": json.loads(pattern), "depth": None}
        READERS[kind](pattern)
    except json.JSONDecodeError as error:
        raise PatternError(f"{who}: a schema must be JSON: {error}.") from None
    except PatternError as error:
        raise PatternError(f"{who}: {error}") from None
    except RecursionError:
        raise PatternError(f"{who}: {_TOO_DEEP}") from None


def compile_tables(
    kind: str,
    pattern: Any,
    tokens: tuple[bytes, ...],
    *,
    eos_ids: np.ndarray,
    finish: bool,
) -> Tables:
    """Return the tables of a pattern over a vocabulary.

    Args:
      kind: a key of `READERS`.
      pattern: what it reads, made of what JSON has.
      tokens: the bytes of each token; b"" adds nothing to a text.
      eos_ids: int32, padded.
      finish: whether a text has to end within its budget.

    Raises:
      PatternError: if the pattern is malformed, unsupported or too large.
    """
    try:
        described = json.dumps(pattern, ensure_ascii=False)
        found = _compiled(kind, described, tokens)
    except RecursionError:
        raise PatternError(_TOO_DEEP) from None
    return replace(found, eos_ids=eos_ids, finish=np.asarray(finish, np.int32))


@functools.lru_cache(maxsize=16)
def _compiled(kind: str, described: str, tokens: tuple[bytes, ...]) -> Tables:
    trie = trie_of(tokens)
    name = json.dumps([VERSION, kind, described, trie.digest])
    key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    none = np.zeros(0, np.int32)
    stored = store.read(key)
    if stored is not None and set(stored) == set(_STORED):
        flags = {
            "eos_ids": none,
            "finish": np.asarray(1, np.int32),
            "free": np.asarray(0, np.int32),
        }
        tables = Tables(**stored, **flags, size=trie.size)
    else:
        automaton = lift(build(READERS[kind](json.loads(described))), trie)
        budgets = budgets_of(automaton)
        tables = tables_of(automaton, budgets, trie.is_text, eos_ids=none, finish=True)
        store.write(key, {name: np.asarray(getattr(tables, name)) for name in _STORED})
    return resized([tables])[0]
