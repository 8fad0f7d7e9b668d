"""From the bytes of a body to what it asks for.

The fields are those of a line of a file of requests (`engine.batch.requests`), and three
more: `stream`, `stream_options`, `response_format`.
"""

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any

from jaxdecode.engine.batch.lines import LineError, parse
from jaxdecode.engine.batch.requests import Defaults, Line, as_body_line
from jaxdecode.engine.batch.submitting import refusals
from jaxdecode.text import LanguageModel
from jaxdecode.transforms import chain, from_response_format


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a body asks for.

    Attributes:
      line: the texts.
      stream: whether they are sent while they are written.
      usage: whether a stream ends with the number of tokens.
    """

    line: Line
    stream: bool
    usage: bool


def as_wanted(
    data: bytes, *, kind: str, name: str, defaults: Defaults, lm: LanguageModel
) -> Wanted:
    """Read a body; a schema in it may take seconds.

    Args:
      data: the body.
      kind: "chat" or "completion".
      name: a name for the request.
      defaults: what the body does not say. Without a seed it gets a new one.
      lm: the model, for patterns.

    Raises:
      LineError: with a code.
    """
    body = parse(data)
    own = {
        field: body.pop(field, None)
        for field in ("stream", "stream_options", "response_format")
    }
    if body.get("seed") is None:
        body["seed"] = secrets.randbits(32)
    if not isinstance(body.get("model", ""), str):
        raise LineError("invalid_type", "`model` must be a text")
    line = as_body_line(name, kind, body, defaults)
    stream = _flag("stream", own["stream"])
    usage = _usage(own["stream_options"], stream)
    return Wanted(_patterned(line, own["response_format"], lm), stream, usage)


def _patterned(line: Line, response_format: Any, lm: LanguageModel) -> Line:
    """Return the line with the link of a response format in front of its sampler."""
    with refusals():
        link = from_response_format(response_format, lm)
    if link is None:
        return line
    return dataclasses.replace(line, sampler=chain(link, line.sampler))


def _usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise LineError("invalid_value", "`stream_options` needs `stream` to be true")
    if not isinstance(options, Mapping) or not set(options) <= {"include_usage"}:
        message = "`stream_options` must be an object with `include_usage` only"
        raise LineError("invalid_type", message)
    return _flag("stream_options.include_usage", options.get("include_usage"))


def _flag(name: str, value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise LineError("invalid_type", f"`{name}` must be true or false")
    return bool(value)
