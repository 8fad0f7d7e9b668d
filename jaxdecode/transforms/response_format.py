"""What a client of OpenAI's API asks of a text's form, as a link."""

from collections.abc import Mapping
from typing import Any

from jaxdecode.core import check
from jaxdecode.core.shapes import TokenIds
from jaxdecode.transforms.matching import JsonSchema, Matches


def from_response_format(
    response_format: Mapping[str, Any] | None,
    tokens: Any,
    *,
    depth: int | None = None,
    eos_ids: TokenIds | None = None,
) -> Matches | None:
    """Return the link for a `response_format` as OpenAI's API takes it.

    Args:
      response_format: `{"type": "text"}` or None, which ask for nothing, or
        `{"type": "json_schema", "json_schema": {"schema": {...}}}`.
      tokens: as in `Regex`.
      depth: as in `JsonSchema`.
      eos_ids: as in `Regex`.

    Returns:
      The link, or None if nothing is asked for.

    Raises:
      TypeError: if it is not a dict.
      ValueError: for another type or another key, by name, and as `JsonSchema`.

    Reference: OpenAI API reference, `response_format`.
    """
    who = "from_response_format"
    if response_format is None:
        return None
    kind = _keys(who, "response_format", response_format, "type", "json_schema")["type"]
    if kind == "text":
        return None
    if kind != "json_schema":
        raise ValueError(
            f"{who}: `response_format.type` must be 'text' or 'json_schema', got "
            f"{check.short(kind)}."
        )
    inner = _keys(
        who,
        "response_format.json_schema",
        response_format.get("json_schema"),
        "schema",
        *("name", "description", "strict"),
    )
    return JsonSchema(inner["schema"], tokens, depth=depth, eos_ids=eos_ids)


def _keys(who: str, name: str, value: Any, needed: str, *others: str) -> Mapping:
    if not isinstance(value, Mapping):
        raise TypeError(f"{who}: `{name}` must be a dict, got {check.short(value)}.")
    if needed not in value:
        raise ValueError(f"{who}: `{name}` must have the key {needed!r}, got none.")
    for key in value:
        if key != needed and key not in others:
            raise ValueError(f"{who}: `{name}` has no key {check.short(key)}.")
    return value
