"""Fields of a line that add a link in front of its sampler.

A field that is not there adds nothing, so that most lines share one structure and run
together. A new field is one entry here: a function from its JSON value to a link, which
raises TypeError or ValueError for a bad one. It is then known to plain lines and to
bodies of envelopes alike.
"""

from collections.abc import Callable
from typing import Any

from jaxdecode.transforms import BanTokens, Link, LogitBias


def logit_bias(value: Any) -> Link:
    """Return the link for `{"token id": bias}`."""
    if not isinstance(value, dict):
        raise TypeError("`logit_bias` must be a JSON object of token ids and biases")
    try:
        return LogitBias({int(token): bias for token, bias in value.items()})
    except ValueError as error:
        raise ValueError(f"`logit_bias`: {error}") from None


def ban_tokens(value: Any) -> Link:
    """Return the link for a list of token ids that are never drawn."""
    if not isinstance(value, list):
        raise TypeError("`ban_tokens` must be a list of token ids")
    return BanTokens(value)


EXTRA_LINKS: dict[str, Callable[[Any], Link]] = {
    "logit_bias": logit_bias,
    "ban_tokens": ban_tokens,
}
