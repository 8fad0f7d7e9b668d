"""From the bytes of a body to what it asks for.

The fields are those of a line of a file of requests (`engine.batch.requests`), and two
more: `stream` and `stream_options`.
"""

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any

from jaxdecode.engine.batch.lines import LineError, parse
from jaxdecode.engine.batch.requests import Defaults, Line, as_body_line
from jaxdecode.text import LanguageModel


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
    own = {field: body.pop(field, None) for field in ("stream", "stream_options")}
    if body.get("seed") is None:
        body["seed"] = secrets.randbits(32)
    if not isinstance(body.get("model", ""), str):
        raise LineError("invalid_type", "`model` must be a text")
    line = as_body_line(name, kind, body, defaults, lm)
    stream = _flag("stream", own["stream"])
    usage = _usage(own["stream_options"], stream)
    return Wanted(line, stream, usage)


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
