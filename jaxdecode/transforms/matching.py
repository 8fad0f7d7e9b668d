"""Links that let a row write only texts that fit a pattern, and end them in time.

A token is banned if and only if no text that fits can be ended after it within the row's
budget. So a text that is generated fits from its first to its last token, always, and
while tokens are left its distribution is the model's own on texts that fit. Patterns are
turned into tables on the host (`patterns`); a step reads one mask and one transition.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import assign, pytree, replace, shared
from jaxdecode.core.rows import Bank
from jaxdecode.core.shapes import NO_ID, NO_LIMIT, TokenIds
from jaxdecode.core.varying import vary_like
from jaxdecode.transforms.base import Edit
from jaxdecode.transforms.patterns.compiling import compile_tables
from jaxdecode.transforms.patterns.errors import PatternError
from jaxdecode.transforms.patterns.lifting import START
from jaxdecode.transforms.patterns.requests import check_request, one_per_entry
from jaxdecode.transforms.patterns.tables import Tables, free_tables, resized
from jaxdecode.transforms.patterns.trie import without
from jaxdecode.transforms.patterns.vocabulary import vocabulary_of
from jaxdecode.transforms.vocabulary import padded_ids


@pytree
class Matches(Edit):
    """One pattern for each prompt: its text fits the pattern, and ends within its budget.

    `Regex`, `JsonSchema` and `Choice` make the patterns, and each of them is such a link
    by itself, whose pattern all rows share. A chain needs it once, before the links that
    cut or scale. Another mix of patterns, or others whose tables round up to the same
    sizes, do not recompile.

    A row whose budget is below the fewest tokens of its pattern is refused before
    anything compiles, or ends with status INVALID where the budget is traced. A link
    that bans what the pattern needs, or a stop that comes first, may end a text early.

    Args:
      patterns: a link of this kind for each prompt, or None for a prompt whose text is
        free. They must have the same tokens.

    Raises:
      TypeError: if they are not such links.
      ValueError: if there is no pattern among them, or their tokens differ.
    """

    patterns: Any = shared()

    def __post_init__(self):
        if not isinstance(self.patterns, (Tables, Bank)):
            assign(self, "patterns", _bank(self.patterns))

    def init(self, context):
        def read(place, state):
            return self.patterns.after(state, jnp.asarray(context.tokens)[place])

        span = context.prompt_length, context.length
        start = vary_like(jnp.int32(START), context.length)
        return jax.lax.fori_loop(*span, read, start)

    def update(self, state, drawn):
        return self.patterns.after(state, drawn.token)

    def __call__(self, logits, context, state):
        tables = self.patterns
        left = jnp.int32(NO_LIMIT)
        if context.budget is not None:
            room = context.budget - context.generated
            left = jnp.where(tables.at("finish") > 0, room, left)
        ends = tables.at("eos_ids") if context.ends is None else context.ends
        fits = tables.members(tables.fitting(state, left, ends), logits.shape[0])
        return jnp.where(fits | (tables.at("free") > 0), logits, -jnp.inf)

    def check_request(self, vocab_size, budget, ends):
        check_request(self.patterns, vocab_size, budget, ends)

    def unfinished(self) -> "Matches":
        """Return the link whose texts need not end in time; its program is the same."""
        given = self.patterns
        tables = given.tables if isinstance(given, Bank) else given
        tables = replace(tables, finish=np.zeros_like(tables.finish))
        bank = isinstance(given, Bank)
        return Matches(replace(given, tables=tables) if bank else tables)

    def __repr__(self):
        tables = one_per_entry(self.patterns)
        return f"Matches({np.shape(tables.free)[0]} of {tables.size} tokens)"


def Regex(
    pattern: str,
    tokens: Any,
    *,
    eos_ids: TokenIds | None = None,
    finish: bool = True,
) -> Matches:
    r"""Let a row write only texts that a regular expression matches as a whole.

    The texts are those of `re.fullmatch(pattern, text, re.ASCII)`.

    Args:
      pattern: in Python's syntax, such as `r"\d{4}-\d{2}-\d{2}"`, without look-around,
        back-references, atomic groups, possessive quantifiers and `\b`; see
        `jaxdecode/transforms/patterns/README.md`.
      tokens: a `LanguageModel`, its tokenizer, or a list with the bytes of each token id,
        None for a control token.
      eos_ids: ids that end a text in `apply` and `score`; where tokens are generated the
        call's own count. None: those of the model.
      finish: whether the text has to end within its budget; False only keeps it on the
        way to a match, for texts that are written in several calls.

    Returns:
      The link, an `Edit`.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for a pattern that is malformed, not supported or too large, by name,
        or of which the tokens spell no match.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"Regex: `pattern` must be a str, got {check.short(pattern)}.")
    return _matches("Regex", "regex", pattern, tokens, eos_ids, finish)


def JsonSchema(
    schema: Any,
    tokens: Any,
    *,
    depth: int | None = None,
    eos_ids: TokenIds | None = None,
    finish: bool = True,
) -> Matches:
    """Let a row write only JSON that is valid under a JSON schema.

    Properties come in the schema's order, others never; there is at most one space
    between two tokens of JSON. What the schema may say is in
    `jaxdecode/transforms/patterns/README.md`; all else is refused by its name and place.

    Args:
      schema: a dict, a JSON text, or a pydantic model class.
      tokens: as in `Regex`.
      depth: how often a definition may occur inside itself, >= 0; None refuses schemas
        that refer to themselves.
      eos_ids: as in `Regex`.
      finish: as in `Regex`.

    Returns:
      The link, an `Edit`.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for a schema that is malformed, not supported or too large, by name,
        or of which the tokens spell no value.
    """
    given = {"schema": _as_schema(schema), "depth": depth}
    if depth is not None:
        given["depth"] = int(check.whole("JsonSchema", "depth", depth, low=0))
    return _matches("JsonSchema", "schema", given, tokens, eos_ids, finish)


def Choice(
    texts: Sequence[str],
    tokens: Any,
    *,
    eos_ids: TokenIds | None = None,
    finish: bool = True,
) -> Matches:
    """Let a row write one of several texts, and nothing else.

    Args:
      texts: the texts, at least one.
      tokens: as in `Regex`.
      eos_ids: as in `Regex`.
      finish: as in `Regex`.

    Returns:
      The link, an `Edit`.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for no texts, lone surrogates, or texts that the tokens cannot spell.
    """
    is_list = isinstance(texts, (list, tuple))
    if not is_list or not all(isinstance(text, str) for text in texts):
        raise TypeError(
            f"Choice: `texts` must be a list of str, got {check.short(texts)}."
        )
    if not texts:
        raise ValueError("Choice: `texts` must hold at least one text, got none.")
    for text in texts:
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
            raise ValueError(
                f"Choice: `texts` must be without lone surrogates, got {text!r}."
            )
    return _matches("Choice", "choices", list(texts), tokens, eos_ids, finish)


def same_sizes(links: Sequence[Matches]) -> list[Matches]:
    """Return links, each of one pattern, with tables of equal sizes.

    Their chains can then be put in each other's rows (`core.rows.put_rows`), and are one
    program.
    """
    return [Matches(tables) for tables in resized([link.patterns for link in links])]


def _as_schema(schema: Any) -> Any:
    """Return a schema as data; bool and dict are what JSON schemas are."""
    if isinstance(schema, type) and callable(
        describe := getattr(schema, "model_json_schema", None)
    ):
        return describe()
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise PatternError(f"JsonSchema: `schema` must be JSON: {error}.") from None
    if not isinstance(schema, (Mapping, bool)):
        raise TypeError(
            "JsonSchema: `schema` must be a dict, a JSON text or a pydantic model class, "
            f"got {check.short(schema)}."
        )
    return schema


def _matches(who, kind, pattern, tokens, eos_ids, finish) -> Matches:
    pieces, own_ends = vocabulary_of(who, tokens)
    ends = own_ends if eos_ids is None else eos_ids
    ids = padded_ids(who, "eos_ids", ends)
    check.in_vocabulary(who, "eos_ids", ids[ids != NO_ID], len(pieces))
    flag = check.flag(who, "finish", finish)
    if np.ndim(flag):
        raise TypeError(f"{who}: `finish` must be True or False, got {finish!r}.")
    try:
        tables = compile_tables(
            kind,
            pattern,
            without(pieces, ids[ids != NO_ID].tolist()),
            eos_ids=ids,
            finish=bool(flag),
        )
    except PatternError as error:
        raise PatternError(f"{who}: {error}") from None
    return Matches(tables)


def _bank(links: Any) -> Bank:
    if not isinstance(links, (list, tuple)):
        raise TypeError(
            "Matches: `patterns` must be a list with a link (Regex, JsonSchema, Choice) "
            f"or None for each prompt, got {check.short(links)}."
        )
    for link in links:
        if link is not None and not (
            isinstance(link, Matches) and isinstance(link.patterns, Tables)
        ):
            raise TypeError(
                "Matches: `patterns` must be links of one pattern each (Regex, "
                f"JsonSchema, Choice), or None, got {check.short(link)}."
            )
    given = [link.patterns for link in links if link is not None]
    if not given:
        raise ValueError("Matches: `patterns` must hold at least one link, got none.")
    sizes = sorted({tables.size for tables in given})
    if len(sizes) > 1:
        raise ValueError(
            f"Matches: `patterns` must have the same tokens, got lists of {sizes[0]} "
            f"and {sizes[-1]}."
        )
    equal = iter(resized(given))
    free = free_tables(resized(given)[0])
    # One for each row, also where rows share theirs: another mix is the same program.
    rows = [free if link is None else next(equal) for link in links]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    return Bank(stacked, np.arange(len(rows), dtype=np.int32))
