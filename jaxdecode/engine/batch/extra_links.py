"""Fields of a line that add a link in front of its sampler.

A field that is not there adds nothing, so that most lines share one structure and run
together. A new field is one entry here: a function from its JSON value and the language
model to a link, or to None for a value that asks for nothing; it raises TypeError or
ValueError for a bad one. Plain lines and bodies of envelopes then know it alike.
"""

from collections.abc import Callable
from typing import Any

from jaxdecode.text import LanguageModel
from jaxdecode.transforms import BanTokens, Choice, Link, LogitBias, Regex
from jaxdecode.transforms.response_format import from_response_format


def logit_bias(value: Any, lm: LanguageModel) -> Link | None:
    """Return the link for `{"token id": bias}`."""
    del lm
    if value in ({}, []):
        return None
    if not isinstance(value, dict):
        raise TypeError("`logit_bias` must be a JSON object of token ids and biases")
    try:
        return LogitBias({int(token): bias for token, bias in value.items()})
    except ValueError as error:
        raise ValueError(f"`logit_bias`: {error}") from None


def ban_tokens(value: Any, lm: LanguageModel) -> Link | None:
    """Return the link for a list of token ids that are never drawn."""
    del lm
    if value in ({}, []):
        return None
    if not isinstance(value, list):
        raise TypeError("`ban_tokens` must be a list of token ids")
    return BanTokens(value)


# In the order in which they come in a chain: a pattern before all others.
EXTRA_LINKS: dict[str, Callable[[Any, LanguageModel], Link | None]] = {
    "regex": Regex,
    "choices": Choice,
    "response_format": from_response_format,
    "logit_bias": logit_bias,
    "ban_tokens": ban_tokens,
}
PATTERNS = ("regex", "choices", "response_format")  # of which a line has at most one
