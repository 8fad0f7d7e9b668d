"""From messages to the text, and the tokens, that a chat model was trained on.

The template is a program that comes with a model; it runs in `template_sandbox`. The
messages are not trusted: every control token in the result comes from the template, none
from a message (`chat_pieces`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdecode.core import check
from jaxdecode.text.errors import ChatTemplateError
from jaxdecode.text.template_limits import (
    BUDGET,
    TEMPLATE_MAX,
    VALUE_MAX,
    WORK_MAX,
    Budget,
    weight,
)
from jaxdecode.text.template_sandbox import Sandbox
from jaxdecode.text.tokenizer import Tokenizer, check_text

ROLE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
PRIVATE_USE = range(0xE000, 0xF900)

Message = Mapping[str, Any]


class ChatTemplate:
    """A compiled chat template.

    Args:
      template: the Jinja source.
      bos_token: value of `{{ bos_token }}`.
      eos_token: value of `{{ eos_token }}`.

    Raises:
      TypeError: if `template` is not a str.
      ChatTemplateError: if it is too long or not valid Jinja.
    """

    def __init__(
        self, template: str, bos_token: str | None = None, eos_token: str | None = None
    ):
        try:
            self.source = check_text("ChatTemplate", "template", template)
        except ValueError as error:
            raise ChatTemplateError(f"chat template: {error}") from error
        self._edges = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        if len(template) > TEMPLATE_MAX:
            raise ChatTemplateError(
                f"chat template: must have at most {TEMPLATE_MAX} characters, "
                f"got {len(template)}."
            )
        self._template = _guarded(Budget(), lambda: Sandbox().from_string(template))

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = True
    ) -> str:
        """Return the conversation as one text, for inspection.

        For a prompt use `chat_pieces`: in this text a control token that a user typed
        looks like the template's own.

        Args:
          messages: a list of dicts with "role" (letters, digits, `_`, `-`) and "content"
            (text); other fields are passed to the template too.
          add_generation_prompt: whether to end with the head of the model's answer.

        Raises:
          TypeError: for messages of the wrong kind.
          ValueError: for no messages, an invalid role, or text that is not valid Unicode.
          ChatTemplateError: if the template refuses the messages, fails, or exceeds its
            limits of time, steps or memory.
        """
        checked = check_messages("ChatTemplate.render", messages)
        return self.render_checked(checked, add_generation_prompt)

    def render_checked(self, messages: list[Any], add_generation_prompt: bool) -> str:
        """Render messages that `check_messages` returned."""
        names = self._edges | {"tools": None, "documents": None}
        return _guarded(
            Budget(work=WORK_MAX + 32 * weight(messages)),
            lambda: self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **names
            ),
        )

    def __repr__(self) -> str:
        return f"ChatTemplate({check.short(self.source)})"


def chat_pieces(
    template: ChatTemplate,
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = True,
) -> list[str | int]:
    """Return a conversation as ordinary text with the template's control ids in between.

    In messages, each character with which a control token can begin is replaced by a
    private character that occurs nowhere else, and restored after the control tokens
    were found. So a control token that begins in a message stays text. If that changes
    what the template does (it may search for `</think>`), the messages are rendered
    unchanged except that control tokens in them are broken by a mark; both renderings
    must have the same control tokens.

    Limit: a control token that begins in the template's own text counts as the
    template's, even if a message completes it.

    Args:
      template: the chat template.
      messages: as in `ChatTemplate.render`.
      tokenizer: has the control tokens.
      add_generation_prompt: as in `ChatTemplate.render`.

    Raises:
      ChatTemplateError: as `ChatTemplate.render`; also if the template makes control
        tokens out of message text.
    """
    messages = check_messages("chat", messages)

    def render(edit: Callable[[str], str]) -> str:
        edited = [
            _edited(message, edit) | {"role": message["role"]} for message in messages
        ]
        return template.render_checked(edited, add_generation_prompt)

    words = list(tokenizer.special_tokens)
    begins = sorted({word[0] for word in words})
    used = set().union(template.source, *words, *_texts(list(messages)))
    spare = [c for c in map(chr, PRIVATE_USE) if c not in used][: len(begins) + 1]
    if len(spare) <= len(begins):
        raise ChatTemplateError("chat: messages use up the private Unicode characters.")
    hide = str.maketrans(dict(zip(begins, spare[1:], strict=True)))
    show = str.maketrans(dict(zip(spare[1:], begins, strict=True)))
    hidden = render(lambda text: text.translate(hide))
    broken = render(lambda text: _break(text, tokenizer, spare[0]))
    if hidden.translate(show) == broken.replace(spare[0], ""):
        return _each_text(tokenizer.split(hidden), lambda text: text.translate(show))
    pieces = tokenizer.split(broken)
    if _ids(pieces) != _ids(tokenizer.split(hidden)):
        raise ChatTemplateError(
            "chat template: must not make control tokens out of message text; the "
            "messages hold parts of one."
        )
    return _each_text(pieces, lambda text: text.replace(spare[0], ""))


def check_messages(who: str, messages: Any) -> list[dict[str, Any]]:
    """Return messages as a list of dicts, after checking them.

    Raises:
      TypeError: for messages of the wrong kind.
      ValueError: for no messages, too long ones, an invalid role, or invalid text.
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


def _message(who: str, i: int, message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise TypeError(
            f"{who}: `messages[{i}]` must be a dict with role and content, got "
            f"{check.short(message)} ({type(message).__name__})."
        )
    for name in ("role", "content"):
        if name not in message:
            raise ValueError(f"{who}: `messages[{i}]` must have a {name!r}, got none.")
        check_text(who, f"messages[{i}][{name!r}]", message[name])
    if not ROLE.match(message["role"]):
        raise ValueError(
            f"{who}: `messages[{i}]['role']` must be 1 to 64 letters, digits, _ or -, "
            f"got {check.short(message['role'])}."
        )
    try:
        for text in _texts(message):
            check_text(who, f"messages[{i}]", text)
    except TypeError as error:
        raise TypeError(
            f"{who}: `messages[{i}]` must be plain data: {error}."
        ) from None
    except RecursionError:
        raise ValueError(
            f"{who}: `messages[{i}]` must not be nested so deeply."
        ) from None
    return dict(message)


def _guarded(budget: Budget, run: Callable[[], Any]) -> Any:
    token = BUDGET.set(budget)
    try:
        return run()
    except ChatTemplateError:
        raise
    except RecursionError:
        raise ChatTemplateError("chat template: must not nest so deeply.") from None
    except Exception as error:  # a template can raise any exception
        line = getattr(error, "lineno", None)
        where = f" line {line}:" if line else ""
        raise ChatTemplateError(f"chat template:{where} {error}") from error
    finally:
        BUDGET.reset(token)


def _edited(value: Any, edit: Callable[[str], str]) -> Any:
    """Apply `edit` to every text in a message except names of fields.

    A key is a name if a template can write it as one: letters, digits, underscores.
    """
    if isinstance(value, str):
        return edit(value)
    if isinstance(value, (list, tuple)):
        return [_edited(item, edit) for item in value]
    if isinstance(value, Mapping):
        return {
            k if k.isidentifier() else edit(k): _edited(v, edit)
            for k, v in value.items()
        }
    return value


def _texts(value: Any) -> list[str]:
    """Return every text in a message, names of fields included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("every field must have a str for a name")
        return [t for pair in value.items() for part in pair for t in _texts(part)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    if not isinstance(value, (int, float, type(None))):
        raise TypeError(f"a {type(value).__name__} is not plain data")
    return []


def _break(text: str, tokenizer: Tokenizer, mark: str) -> str:
    """Put `mark` after the first character of each control token in a text."""
    begin, parts = 0, []
    for place in tokenizer.special_starts(text):
        parts += [text[begin : place + 1], mark]
        begin = place + 1
    return "".join([*parts, text[begin:]])


def _each_text(
    pieces: Sequence[str | int], edit: Callable[[str], str]
) -> list[str | int]:
    return [edit(piece) if isinstance(piece, str) else piece for piece in pieces]


def _ids(pieces: Sequence[str | int]) -> list[int]:
    return [piece for piece in pieces if isinstance(piece, int)]
