"""The messages of a conversation, checked and brought into one form.

A message is plain data: strings, numbers, lists, dicts. A content is a text, or a list of
parts of which only texts can be read. What other interfaces write differently is made
alike: an answer that only calls tools has the content "", and the arguments of a call are
an object and not its JSON.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdecode.core import check
from jaxdecode.text.template_limits import VALUE_MAX, weight
from jaxdecode.text.tokenizer import check_text

ROLE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
RESULTS = ("tool", "function", "ipython")  # roles whose content may be any plain data
PART = '{"type": "text", "text": ...}'

Message = Mapping[str, Any]


def check_messages(who: str, messages: Any) -> list[dict[str, Any]]:
    """Return messages as a list of dicts, after checking them.

    Raises:
      TypeError: for messages of the wrong kind.
      ValueError: for no messages, too long ones, an invalid role, invalid text, or a
        part that is not text.
    """
    if not isinstance(messages, (list, tuple)):
        raise TypeError(
            f"{who}: `messages` must be a list of dicts with role and content, got "
            f"{check.short(messages)} ({type(messages).__name__})."
        )
    if not messages:
        raise ValueError(f"{who}: `messages` must hold at least one message, got none.")
    checked = [_message(who, i, message) for i, message in enumerate(messages)]
    if weight(checked) > VALUE_MAX:
        raise ValueError(
            f"{who}: `messages` must have at most {VALUE_MAX} characters altogether."
        )
    return checked


def check_plain(who: str, name: str, value: Any) -> Any:
    """Return a value after checking that it is plain data with valid texts.

    Raises:
      TypeError: for anything else, such as a function.
      ValueError: for invalid text, too much of it, or too deep a nesting.
    """
    try:
        for text in all_texts(value):
            check_text(who, name, text)
    except TypeError as error:
        raise TypeError(f"{who}: `{name}` must be plain data: {error}.") from None
    except RecursionError:
        raise ValueError(f"{who}: `{name}` must not be nested so deeply.") from None
    if weight(value) > VALUE_MAX:
        raise ValueError(f"{who}: `{name}` must have at most {VALUE_MAX} characters.")
    return value


def with_texts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages whose lists of parts are one text, a line for each part."""
    return [
        {**message, "content": "\n".join(part["text"] for part in message["content"])}
        if has_parts(message)
        else dict(message)
        for message in messages
    ]


def has_parts(message: Message) -> bool:
    """Whether a checked message's content is a list of text parts."""
    content = message["content"]
    return isinstance(content, list) and all(map(_is_text_part, content))


def all_texts(value: Any) -> list[str]:
    """Return every text in plain data, names of fields included.

    Raises:
      TypeError: for something that is not plain data.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("every field must have a str for a name")
        return [t for pair in value.items() for part in pair for t in all_texts(part)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in all_texts(item)]
    if not isinstance(value, (int, float, type(None))):
        raise TypeError(f"a {type(value).__name__} is not plain data")
    return []


def _message(who: str, i: int, message: Any) -> dict[str, Any]:
    name = f"messages[{i}]"
    if not isinstance(message, Mapping):
        raise TypeError(
            f"{who}: `{name}` must be a dict with role and content, got "
            f"{check.short(message)} ({type(message).__name__})."
        )
    if "role" not in message:
        raise ValueError(f"{who}: `{name}` must have a 'role', got none.")
    role = check_text(who, f"{name}['role']", message["role"])
    if not ROLE.match(role):
        raise ValueError(
            f"{who}: `{name}['role']` must be 1 to 64 letters, digits, _ or -, "
            f"got {check.short(role)}."
        )
    made = {**message, "content": _content(who, name, message)}
    check_plain(who, name, made)
    if isinstance(made.get("tool_calls"), (list, tuple)):
        made["tool_calls"] = [_call(call) for call in made["tool_calls"]]
    return made


def _content(who: str, name: str, message: Message) -> Any:
    """Return a message's content: a text, a list of text parts, or a tool's result."""
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return ""
    if "content" not in message:
        raise ValueError(f"{who}: `{name}` must have a 'content', got none.")
    if isinstance(content, str):
        return check_text(who, f"{name}['content']", content)
    if message["role"] in RESULTS and content is not None:
        return content
    name = f"{name}['content']"
    if not isinstance(content, (list, tuple)) or not content:
        return check_text(who, name, content)
    for part in content:
        if not isinstance(part, Mapping):
            raise TypeError(
                f"{who}: `{name}` must be a str or a list of parts such as {PART}, "
                f"got {check.short(content)}."
            )
        if not _is_text_part(part):
            raise ValueError(
                f"{who}: `{name}` must have text parts only, such as {PART}, got "
                f"{check.short(part)}; the model reads nothing else."
            )
    return [dict(part) for part in content]


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and part.get("type", "text") == "text"
        and isinstance(part.get("text"), str)
    )


def _call(call: Any) -> Any:
    """Return a tool call with its arguments as an object; what is not JSON stays."""
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(call["function"])}
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments)
        except (ValueError, RecursionError):
            return dict(call)
        if isinstance(read, dict):
            return {**call, "arguments": read}
    return dict(call)
