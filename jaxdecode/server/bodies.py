"""From the bytes of a body to what it asks for.

The fields are those of a line of a file of requests (`engine.batch.requests`), and two
more: `stream` and `stream_options`; a completion may also have a list of prompts.
"""

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any

from jaxdecode.engine.batch.lines import LineError, parse
from jaxdecode.engine.batch.requests import (
    Defaults,
    Line,
    as_body_line,
    with_prompt,
)
from jaxdecode.text import LanguageModel


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a body asks for.

    Attributes:
      lines: one for each prompt.
      stream: whether they are sent while they are written.
      usage: whether a stream ends with the number of tokens.
    """

    lines: tuple[Line, ...]
    stream: bool
    usage: bool

    @property
    def line(self) -> Line:
        """The first one; the others have other prompts and seeds only."""
        return self.lines[0]


def as_wanted(
    data: bytes,
    *,
    kind: str,
    name: str,
    defaults: Defaults,
    lm: LanguageModel,
    prompts_max: int,
) -> Wanted:
    """Read a body; a schema in it may take seconds.

    Args:
      data: the body.
      kind: "chat" or "completion".
      name: a name for the request.
      defaults: what the body does not say. Without a seed it gets a new one.
      lm: the model, for patterns.
      prompts_max: most prompts of a list.

    Raises:
      LineError: with a code.
    """
    body = parse(data)
    own = {field: body.pop(field, None) for field in ("stream", "stream_options")}
    if body.get("seed") is None:
        body["seed"] = secrets.randbits(32)
    if not isinstance(body.get("model", ""), str):
        raise LineError("invalid_type", "`model` must be a text")
    prompts = _prompts(body, kind, prompts_max)
    first = as_body_line(name, kind, {**body, "prompt": prompts[0]}, defaults, lm)
    lines = [
        with_prompt(first, prompt, (first.seed + index) % 2**32)
        for index, prompt in enumerate(prompts[1:], 1)
    ]
    stream = _flag("stream", own["stream"])
    usage = _usage(own["stream_options"], stream)
    return Wanted((first, *lines), stream, usage)


def _prompts(body: Mapping[str, Any], kind: str, most: int) -> list[Any]:
    """Return the prompts of a list, or the one that there is; none of them is checked."""
    prompt = body.get("prompt")
    if kind == "chat" or not isinstance(prompt, list):
        return [prompt]
    if not any(isinstance(one, (str, list)) for one in prompt):
        return [prompt]  # token ids
    if len(prompt) > most:
        message = f"`prompt` must hold at most {most} prompts here, got {len(prompt)}"
        raise LineError("invalid_value", message)
    return prompt


def _usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise LineError("invalid_value", "`stream_options` needs `stream` to be true")
    known = {"include_usage", "include_obfuscation"}
    if not isinstance(options, Mapping) or not set(options) <= known:
        message = "`stream_options` must be an object with `include_usage` only"
        raise LineError("invalid_type", message)
    name = "stream_options.include_obfuscation"
    if _flag(name, options.get("include_obfuscation")):
        raise LineError("unsupported", f"`{name}` must be false: nothing is padded")
    return _flag("stream_options.include_usage", options.get("include_usage"))


def _flag(name: str, value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise LineError("invalid_type", f"`{name}` must be true or false")
    return bool(value)
