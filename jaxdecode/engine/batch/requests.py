"""From a line's object to what the engine is asked for; plain lines and envelopes.

A plain line is `{"id": ..., "prompt" | "messages": ..., ...}`; an envelope is that of
the OpenAI batch format, `{"custom_id": ..., "body": {...}}`. Fields that a line does not
have are taken from the defaults of the run.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any

from jaxdecode.engine.batch import other_fields
from jaxdecode.engine.batch.extra_links import EXTRA_LINKS, PATTERNS
from jaxdecode.engine.batch.lines import LineError
from jaxdecode.text import LanguageModel
from jaxdecode.transforms import Chain, chain, joint
from jaxdecode.transforms.patterns.errors import PatternError

JOINT = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
)
SHARED = {*JOINT, *EXTRA_LINKS, "seed", "stop", "n", "ignore_eos", "max_tokens"}
PLAIN = SHARED | {"id", "prompt", "messages", "tokens", "logprobs"}
BODY = (
    SHARED
    | other_fields.KNOWN
    | {
        "prompt",
        "messages",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
        "stream",
    }
)
TOP = {"chat": 20, "completion": 5}  # most alternatives, as in OpenAI's interface
URLS = {"/v1/chat/completions": "messages", "/v1/completions": "prompt"}
SAMPLES_MAX = 4096
ID_MAX = 4096


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What lines without the field of that name get.

    Attributes:
      sampling: arguments of `jaxdecode.joint`.
      max_tokens: most tokens of a text.
      seed: with a line's id, names the seed of a line without one.
      ignore_eos: whether a text goes on after an eos id.
    """

    sampling: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_tokens: int = 128
    seed: int = 0
    ignore_eos: bool = False


@dataclasses.dataclass(frozen=True)
class Line:
    """What a line asks for.

    Attributes:
      id: its name.
      kind: "plain", "chat" or "completion": how the answer is written.
      prompt: a text, token ids or messages.
      seed: names the key.
      sampler: its chain.
      options: further arguments of `Engine.submit`.
      tokens: whether the answer lists the token ids.
      logprobs: whether it lists their log-probs.
      top: how many alternatives it lists beside each.
    """

    id: str | int
    kind: str
    prompt: Any
    seed: int
    sampler: Chain
    options: dict[str, Any]
    tokens: bool
    logprobs: bool
    top: int = 0


def id_of(fields: Mapping[str, Any], index: int) -> str | int:
    """Return a line's own name; without one it is the number of the line, from 0.

    Raises:
      LineError: invalid_id.
    """
    name = "custom_id" if is_envelope(fields) else "id"
    found = fields.get(name, index)
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise LineError("invalid_id", f"`{name}` must be a text or an integer")
    if isinstance(found, str) and not _is_text(found):
        raise LineError("invalid_id", f"`{name}` must be valid Unicode")
    if isinstance(found, int) and abs(found) >= 2**53:  # others read JSON as floats
        raise LineError("invalid_id", f"`{name}` must be less than 2**53 either way")
    if isinstance(found, str) and len(found) > ID_MAX:
        raise LineError("invalid_id", f"`{name}` must be at most {ID_MAX} characters")
    return found


def is_envelope(fields: Mapping[str, Any]) -> bool:
    """Whether a line is an envelope of the OpenAI batch format."""
    return "custom_id" in fields or "body" in fields


def as_line(
    fields: Mapping[str, Any], index: int, defaults: Defaults, lm: LanguageModel
) -> Line:
    """Check a line's fields.

    Args:
      fields: the line.
      index: its number among the lines of the whole input, from 0.
      defaults: what it does not say.
      lm: the language model, whose tokens patterns are made of.

    Raises:
      LineError: with a code.
    """
    name = id_of(fields, index)
    kind, body = _unwrapped(fields)
    return _checked_line(name, kind, body, defaults, lm)


def as_body_line(
    name: str,
    kind: str,
    body: Mapping[str, Any],
    defaults: Defaults,
    lm: LanguageModel,
) -> Line:
    """Check the body of a request as OpenAI's interface has it, outside of a file.

    Args:
      name: a name for it.
      kind: "chat" or "completion".
      body: its fields.
      defaults: what it does not say.
      lm: the language model, whose tokens patterns are made of.

    Raises:
      LineError: with a code.
    """
    _only(body, BODY)
    wanted, other = ("messages", "prompt")[:: 1 if kind == "chat" else -1]
    if body.get(wanted) is None or body.get(other) is not None:
        message = f"a {kind} must have `{wanted}` and no `{other}`"
        raise LineError("missing_prompt", message)
    return _checked_line(name, kind, _renamed(dict(body)), defaults, lm)


def with_prompt(line: Line, prompt: Any, seed: int) -> Line:
    """Return a line that asks the same of another prompt.

    Raises:
      LineError: with a code.
    """
    return dataclasses.replace(line, prompt=_prompt({"prompt": prompt}), seed=seed)


def _checked_line(
    name: str | int,
    kind: str,
    body: dict[str, Any],
    defaults: Defaults,
    lm: LanguageModel,
) -> Line:
    body = {key: value for key, value in body.items() if value is not None}
    try:
        return _line(name, kind, body, defaults, lm)
    except LineError:
        raise
    except PatternError as error:
        raise LineError("invalid_pattern", str(error)) from None
    except TypeError as error:
        raise LineError("invalid_type", str(error)) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise LineError("invalid_value", str(error)) from None


def _unwrapped(fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return how the answer is written, and what is asked for."""
    if not is_envelope(fields):
        _only(fields, PLAIN)
        return "plain", dict(fields)
    _only(fields, {"custom_id", "method", "url", "body"})
    body = fields.get("body")
    if not isinstance(body, dict):
        raise LineError("invalid_type", "`body` must be a JSON object")
    if fields.get("method", "POST") != "POST":
        raise LineError("unsupported", "`method` must be POST")
    _only(body, BODY)
    wanted = "messages" if "messages" in body else "prompt"
    url = fields.get("url")
    if url is not None and (not isinstance(url, str) or URLS.get(url) != wanted):
        known = " or ".join(URLS)
        message = f"`url` must be {known}, as the body is, got {url!r:.80}"
        raise LineError("unsupported", message)
    if body.get("stream"):
        raise LineError("unsupported", "`stream` must be false in a batch")
    return "chat" if wanted == "messages" else "completion", _renamed(body)


def _renamed(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with one name for each thing, without what means nothing here."""
    kept = other_fields.without_other_fields(body)
    kept.pop("stream", None)
    longest = kept.pop("max_completion_tokens", None)
    if longest is not None:
        kept["max_tokens"] = longest
    return kept


def _line(
    name: str | int,
    kind: str,
    body: dict[str, Any],
    defaults: Defaults,
    lm: LanguageModel,
) -> Line:
    ignore_eos = _flag(body, "ignore_eos", defaults.ignore_eos)
    options: dict[str, Any] = {
        "max_new_tokens": _whole(body, "max_tokens", defaults.max_tokens, 2**31 - 1),
        "num_samples": _whole(body, "n", 1, SAMPLES_MAX),
    }
    if ignore_eos:
        options["eos_ids"] = ()
    if "stop" in body:
        options["stop_strings"] = _stops(body["stop"])
    logprobs, top = _logprobs(body, kind)
    if top:  # the most of any, cut later, so that all such lines run together
        most = min(max(TOP.values()), lm.model.vocab_size)
        options["observe"] = (f"top_logprobs:{most}",)
    return Line(
        id=name,
        kind=kind,
        prompt=_prompt(body),
        seed=_seed(body, name, defaults),
        sampler=_sampler(body, defaults, lm),
        options=options,
        tokens=_flag(body, "tokens", False),
        logprobs=logprobs,
        top=top,
    )


def _prompt(body: dict[str, Any]) -> Any:
    if ("prompt" in body) == ("messages" in body):
        got = "both" if "prompt" in body else "none"
        raise LineError(
            "missing_prompt", f"there must be `prompt` or `messages`, got {got}"
        )
    if "messages" in body:
        return _messages(body["messages"])
    prompt = body["prompt"]
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list) or not all(type(t) is int for t in prompt):
        raise LineError(
            "invalid_type", "`prompt` must be a text or a list of token ids"
        )
    if not prompt:
        raise LineError("invalid_value", "`prompt` must not be empty")
    return prompt


def _messages(messages: Any) -> list[dict[str, Any]]:
    is_list = isinstance(messages, list) and len(messages) > 0
    if not is_list or not all(isinstance(message, dict) for message in messages):
        raise LineError("invalid_type", "`messages` must be a list of JSON objects")
    return [{**message, "content": _content(message)} for message in messages]


def _content(message: dict[str, Any]) -> Any:
    """Return a message's text; parts of text are put together."""
    content = message.get("content")
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise LineError("unsupported", "`content` must be text, or parts of text")
        texts.append(part.get("text"))
    if not all(isinstance(text, str) for text in texts):
        raise LineError("invalid_type", "the `text` of a part must be a text")
    return "".join(texts)


def _sampler(body: dict[str, Any], defaults: Defaults, lm: LanguageModel) -> Chain:
    patterns = [name for name in PATTERNS if name in body]
    if len(patterns) > 1:
        both = f"`{patterns[0]}` and `{patterns[1]}`"
        raise LineError("unsupported", f"{both} must not be given together")
    given = [make(body[name], lm) for name, make in EXTRA_LINKS.items() if name in body]
    extra = [link for link in given if link is not None]
    said = {name: body[name] for name in JOINT if name in body}
    for name, value in said.items():
        if type(value) not in (int, float):  # a list would be a value per row
            raise LineError("invalid_type", f"`{name}` must be a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise LineError("invalid_value", f"`{name}` must be finite, got {value}")
    return chain(*extra, joint(**dict(defaults.sampling) | said))


def _seed(body: dict[str, Any], name: str | int, defaults: Defaults) -> int:
    """Return a line's seed; without one it follows from the run's and the line's name."""
    if "seed" in body:
        return _whole(body, "seed", 0, 2**32 - 1, low=0)
    named = f"{defaults.seed}:{type(name).__name__}:{name}".encode()
    return int.from_bytes(hashlib.blake2b(named, digest_size=4).digest(), "little")


def _stops(stop: Any) -> list[str]:
    listed = [stop] if isinstance(stop, str) else stop
    if not isinstance(listed, list) or not all(isinstance(t, str) for t in listed):
        raise LineError("invalid_type", "`stop` must be a text or a list of texts")
    return listed


def _logprobs(body: dict[str, Any], kind: str) -> tuple[bool, int]:
    """Return whether log-probs are wanted, and how many alternatives beside each."""
    if kind == "completion" and "top_logprobs" in body:
        message = (
            "`top_logprobs` is for a chat; a completion has a number as `logprobs`"
        )
        raise LineError("unsupported", message)
    if kind == "completion" and type(body.get("logprobs")) is int:
        return True, _whole(body, "logprobs", 0, TOP[kind], low=0)
    wanted = _flag(body, "logprobs", False)
    if "top_logprobs" not in body:
        return wanted, 0
    if not wanted:
        raise LineError("invalid_value", "`top_logprobs` needs `logprobs` to be true")
    return wanted, _whole(body, "top_logprobs", 0, TOP[kind], low=0)


def _flag(body: dict[str, Any], name: str, default: bool) -> bool:
    found = body.get(name, default)
    if not isinstance(found, bool):
        raise LineError("invalid_type", f"`{name}` must be true or false")
    return found


def _whole(body: Any, name: str, default: int, high: int, *, low: int = 1) -> int:
    found = body.get(name, default)
    if type(found) is not int:
        raise LineError("invalid_type", f"`{name}` must be an integer")
    if not low <= found <= high:
        got = f"{found}" if abs(found) < 10**30 else "a huge number"
        message = f"`{name}` must be in [{low}, {high}], got {got}"
        raise LineError("invalid_value", message)
    return found


def _only(fields: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(fields) - known)
    if unknown:
        raise LineError("unknown_field", f"there is no field {unknown[0]!r:.80}")


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
