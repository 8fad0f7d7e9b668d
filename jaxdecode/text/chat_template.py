"""From messages to the text, and the tokens, that a chat model was trained on.

The template is a program that comes with a model; it runs in `template_sandbox`. The
messages are not trusted: every control token in the result comes from the template, none
from a message (`chat_pieces`).
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import meta

from jaxdecode.core import check
from jaxdecode.text.errors import ChatTemplateError
from jaxdecode.text.messages import (
    Message,
    all_texts,
    check_messages,
    check_plain,
    has_parts,
    with_texts,
)
from jaxdecode.text.template_limits import (
    BUDGET,
    TEMPLATE_MAX,
    WORK_MAX,
    Budget,
    weight,
)
from jaxdecode.text.template_sandbox import Absent, Sandbox
from jaxdecode.text.tokenizer import Tokenizer, check_text

PRIVATE_USE = range(0xE000, 0xF900)
PROBE = "ProbeOfAPart"


class ChatTemplate:
    """A compiled chat template.

    Args:
      template: the Jinja source.
      bos_token: value of `{{ bos_token }}`; None: it is not defined, and prints nothing.
      eos_token: value of `{{ eos_token }}`, likewise.
      pad_token: value of `{{ pad_token }}`, likewise.
      unk_token: value of `{{ unk_token }}`, likewise.

    Raises:
      TypeError: if `template` is not a str.
      ChatTemplateError: if it is too long or not valid Jinja.
    """

    def __init__(
        self,
        template: str,
        bos_token: str | None = None,
        eos_token: str | None = None,
        *,
        pad_token: str | None = None,
        unk_token: str | None = None,
    ):
        try:
            self.source = check_text("ChatTemplate", "template", template)
        except ValueError as error:
            raise ChatTemplateError(f"chat template: {error}") from error
        texts = {"bos_token": bos_token, "eos_token": eos_token}
        texts |= {"pad_token": pad_token, "unk_token": unk_token}
        self._tokens = {n: Absent(name=n) if t is None else t for n, t in texts.items()}
        if len(template) > TEMPLATE_MAX:
            raise ChatTemplateError(
                f"chat template: must have at most {TEMPLATE_MAX} characters, "
                f"got {len(template)}."
            )
        self._template = _guarded(Budget(), lambda: Sandbox().from_string(template))

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """Return the conversation as one text, for inspection.

        For a prompt use `chat_pieces`: in this text a control token that a user typed
        looks like the template's own.

        Args:
          messages: a list of dicts with "role" (letters, digits, `_`, `-`) and "content"
            (a text, or a list of text parts); other fields are passed to the template
            too.
          add_generation_prompt: whether to end with the head of the model's answer.
          **variables: plain data under further names, such as `tools` and `documents`.

        Raises:
          TypeError: for messages or variables of the wrong kind.
          ValueError: for no messages, an invalid role, or text that is not valid Unicode.
          ChatTemplateError: if the template refuses the messages, fails, or exceeds its
            limits of time, steps or memory.
        """
        who = "ChatTemplate.render"
        for name, value in variables.items():
            check_plain(who, name, value)
        variables["add_generation_prompt"] = add_generation_prompt
        checked = self.adapted(check_messages(who, messages))
        return self.render_checked(checked, variables)

    def render_checked(self, messages: list[Any], variables: Mapping[str, Any]) -> str:
        """Render messages that `check_messages` returned, with checked variables."""
        names = {"tools": None, "documents": None, **self._tokens, **variables}
        size = weight(messages) + weight(dict(variables))
        return _guarded(
            Budget(work=WORK_MAX + 32 * size),
            lambda: self._template.render(names | {"messages": messages}),
        )

    def adapted(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return messages in the form that the template reads: texts, or parts."""
        if any(map(has_parts, messages)) and not self._takes_parts:
            return with_texts(messages)
        return messages

    @functools.cached_property
    def variables(self) -> frozenset[str]:
        """The names that the template looks up."""

        def find():
            sandbox = Sandbox()
            names = meta.find_undeclared_variables(sandbox.parse(self.source))
            return frozenset(names - set(sandbox.globals))

        return _guarded(Budget(), find)

    @functools.cached_property
    def _takes_parts(self) -> bool:
        """Whether the template prints the texts of a list of parts, not the list."""
        part = {"type": "text", "text": PROBE}
        message = {"role": "user", "content": [part]}
        try:
            text = self.render_checked([message], {"add_generation_prompt": True})
        except ChatTemplateError:
            return False
        return PROBE in text and not re.search(f"text['\"]: ['\"]{PROBE}", text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({check.short(self.source)})"


class BrokenTemplate(ChatTemplate):
    """A template that does not compile: its model writes text, but cannot chat.

    Args:
      template: the Jinja source.
      error: what is wrong with it, raised when it is asked for a conversation.
    """

    def __init__(self, template: str, error: ChatTemplateError):
        self.source, self.error = template, error

    def render_checked(self, messages: list[Any], variables: Mapping[str, Any]) -> str:
        """Raise what is wrong with the template."""
        raise ChatTemplateError(str(self.error)) from self.error

    @property
    def variables(self) -> frozenset[str]:  # type: ignore[override]
        """Raise what is wrong with the template."""
        raise ChatTemplateError(str(self.error)) from self.error


def chat_pieces(
    template: ChatTemplate,
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> list[str | int]:
    """Return a conversation as ordinary text with the template's control ids in between.

    In messages, each character with which a control token can begin is replaced by a
    private character that occurs nowhere else, and restored after the control tokens
    were found. So a control token that begins in a message stays text. If that changes
    what the template does (it may search for `</think>`), the messages are rendered
    unchanged except that control tokens in them are broken by a mark; both renderings
    must have the same control tokens. Variables are treated like messages.

    Limit: a control token that begins in the template's own text counts as the
    template's, even if a message completes it.

    Args:
      template: the chat template.
      messages: as in `ChatTemplate.render`.
      tokenizer: has the control tokens.
      add_generation_prompt: as in `ChatTemplate.render`.
      continue_final_message: whether to end inside the last message, for the model to
        continue it.
      variables: as in `ChatTemplate.render`.

    Raises:
      ValueError: if a message that is to be continued has no text.
      ChatTemplateError: as `ChatTemplate.render`; also if the template makes control
        tokens out of message text, or leaves out the message to be continued.
    """
    messages = template.adapted(check_messages("chat", messages))
    given = dict(variables or {})
    words = list(tokenizer.special_tokens)
    begins = sorted({word[0] for word in words})
    texts = all_texts([messages, given])
    used = set().union(template.source, *words, *texts)
    spare = [c for c in map(chr, PRIVATE_USE) if c not in used][: len(begins) + 2]
    if len(spare) < len(begins) + 2:
        raise ChatTemplateError("chat: messages use up the private Unicode characters.")
    mark, end, *hidden_begins = spare
    space = ""
    if continue_final_message:
        last, space = _marked(messages[-1], end)
        messages = [*messages[:-1], last]

    def render(edit: Callable[[str], str]) -> str:
        edited = [
            _edited(message, edit) | {"role": message["role"]} for message in messages
        ]
        names = {"add_generation_prompt": add_generation_prompt, **_edited(given, edit)}
        text = template.render_checked(edited, names)
        return _cut(text, end, space) if continue_final_message else text

    hide = str.maketrans(dict(zip(begins, hidden_begins, strict=True)))
    show = str.maketrans(dict(zip(hidden_begins, begins, strict=True)))
    hidden = render(lambda text: text.translate(hide))
    broken = render(lambda text: _break(text, tokenizer, mark))
    if hidden.translate(show) == broken.replace(mark, ""):
        return _each_text(tokenizer.split(hidden), lambda text: text.translate(show))
    pieces = tokenizer.split(broken)
    if _ids(pieces) != _ids(tokenizer.split(hidden)):
        raise ChatTemplateError(
            "chat template: must not make control tokens out of message text; the "
            "messages hold parts of one."
        )
    return _each_text(pieces, lambda text: text.replace(mark, ""))


def _marked(message: Message, end: str) -> tuple[dict[str, Any], str]:
    """Return a message with a mark where its text ends, and the space after the mark.

    A template may trim a message: the mark stands before the space at the end, which
    stays only where the template keeps it.
    """
    content = message["content"]
    if isinstance(content, str):
        text = content.rstrip()
        return {**message, "content": text + end + content[len(text) :]}, content[
            len(text) :
        ]
    if not has_parts(message):
        raise ValueError(
            "chat: `continue_final_message` needs a last message that is a text, got "
            f"{check.short(content)}."
        )
    *parts, last = content
    text = last["text"].rstrip()
    space = last["text"][len(text) :]
    return {**message, "content": [*parts, {**last, "text": text + end + space}]}, space


def _cut(text: str, end: str, space: str) -> str:
    """Return a rendered conversation up to the mark."""
    place = text.rfind(end)
    if place < 0:
        raise ChatTemplateError(
            "chat template: must write the last message for `continue_final_message`, "
            "but leaves it out."
        )
    kept = space if text.startswith(space, place + 1) else ""
    return text[:place].replace(end, "") + kept


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
