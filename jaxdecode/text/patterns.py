"""The pattern that a text is asked to fit, as a link before the others."""

from collections.abc import Mapping
from typing import Any

from jaxdecode.transforms import (
    Chain,
    Choice,
    JsonSchema,
    Link,
    Matches,
    Regex,
    as_chain,
    chain,
)

_LINKS = {"regex": Regex, "schema": JsonSchema, "choices": Choice}


def pattern_link(who: str, options: Mapping[str, Any], tokens: Any) -> Matches | None:
    """Return the link for `regex`, `schema` or `choices`, or None without one.

    Args:
      who: the method that was called, for messages.
      options: its options; None in one of them asks for nothing.
      tokens: the language model.

    Raises:
      TypeError: for a pattern of the wrong kind, or more than one.
      ValueError: for a pattern that is not supported, or that no tokens spell.
    """
    given = [name for name in _LINKS if options.get(name) is not None]
    if len(given) > 1:
        raise TypeError(
            f"{who}: at most one of `regex`, `schema` and `choices` must be given, got "
            f"`{given[0]}` and `{given[1]}`."
        )
    return _LINKS[given[0]](options[given[0]], tokens) if given else None


def with_pattern(who: str, options: Mapping[str, Any], tokens: Any) -> Any:
    """Return the sampler of some options, behind the pattern that they ask for.

    Args and raises are those of `pattern_link`.
    """
    link, sampler = pattern_link(who, options, tokens), options.get("sampler")
    return sampler if link is None else chain(link, as_chain(sampler))


def without_budgets(sampler: Link | Chain | None) -> Chain:
    """Return a sampler of the same program whose texts need not end in time."""
    links = as_chain(sampler).links
    return chain(*(x.unfinished() if isinstance(x, Matches) else x for x in links))


def has_pattern(sampler: Link | Chain | None) -> bool:
    """Whether texts have to fit a pattern: a space at their start then belongs to it."""
    if sampler is None:
        return False
    return any(isinstance(link, Matches) for link in as_chain(sampler).links)


def without_pattern(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options but for `regex`, `schema` and `choices`."""
    return {name: value for name, value in options.items() if name not in _LINKS}
