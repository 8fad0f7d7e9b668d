"""What a caller gives for a conversation, and the tokens that its template makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxdecode.core import check
from jaxdecode.text.chat_template import ChatTemplate, chat_pieces
from jaxdecode.text.errors import ChatTemplateError
from jaxdecode.text.messages import Message, check_plain
from jaxdecode.text.template_limits import TEMPLATE_MAX
from jaxdecode.text.tokenizer import Tokenizer

_JINJA = "{}\n"  # a text without any of them is a file's name


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages and everything else that a chat template reads.

    Attributes:
      who: the method that was called, for messages.
      messages: the messages.
      template: the template, or None.
      add_generation_prompt: whether to end with the head of the answer; None: unless
        the last message is continued.
      continue_final_message: whether the model continues the last message.
      variables: plain data under other names; None is not passed on, except as `tools`
        and `documents`.
    """

    who: str
    messages: Sequence[Message]
    template: ChatTemplate | None
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)

    def encode(self, tokenizer: Tokenizer) -> list[int]:
        """Return the tokens of the conversation as the template renders it.

        Raises:
          TypeError: for messages or variables of the wrong kind.
          ValueError: for invalid ones, or both ways to end at once.
          ChatTemplateError: if there is no template, it fails, or its text is empty.
        """
        template = self._checked()
        variables = {n: v for n, v in self.variables.items() if v is not None}
        pieces = chat_pieces(
            template,
            self.messages,
            tokenizer,
            add_generation_prompt=self._adds_prompt,
            continue_final_message=self.continue_final_message,
            variables=variables,
        )
        ids = tokenizer.encode_pieces(pieces, add_special=False)
        if not ids:
            raise ChatTemplateError(
                f"{self.who}: the chat template must make at least one token of the "
                "messages, got none."
            )
        return ids

    @property
    def _adds_prompt(self) -> bool:
        if self.add_generation_prompt is None:
            return not self.continue_final_message
        return self.add_generation_prompt

    def _checked(self) -> ChatTemplate:
        if self.template is None:
            raise ChatTemplateError(
                f"{self.who}: the model must come with a chat template, got none; give "
                "one as `chat_template`, or write the conversation as a prompt for "
                "`generate`."
            )
        for name in ("add_generation_prompt", "continue_final_message"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, bool):
                raise TypeError(
                    f"{self.who}: `{name}` must be True or False, got "
                    f"{check.short(value)}."
                )
        if self.continue_final_message and self._adds_prompt:
            raise ValueError(
                f"{self.who}: `add_generation_prompt` must not be True together with "
                "`continue_final_message`: the answer would begin a new message."
            )
        for name in ("tools", "documents"):
            _check_dicts(self.who, name, self.variables.get(name))
        for name, value in self.variables.items():
            check_plain(self.who, name, value)
        return self.template


def as_template(
    who: str, given: str | Path | ChatTemplate, texts: Mapping[str, str]
) -> ChatTemplate:
    """Return the template that a caller gives as text or as a file.

    Args:
      who: the method that was called, for messages.
      given: a compiled template, a Jinja text, or the path of a file with one. A str is
        a path if it has no brace and no line end, for a template has one.
      texts: the special tokens, such as {"bos_token": "<s>"}.

    Raises:
      TypeError: for anything else.
      FileNotFoundError: if there is no such file.
      ChatTemplateError: if it is too long, not UTF-8, or not valid Jinja.
    """
    if isinstance(given, ChatTemplate):
        return given
    if isinstance(given, str) and (not given or any(c in given for c in _JINJA)):
        return ChatTemplate(given, **texts)
    if not isinstance(given, (str, Path)):
        raise TypeError(
            f"{who}: `chat_template` must be a Jinja text or the path of a file, got "
            f"{check.short(given)} ({type(given).__name__})."
        )
    path = Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"{who}: `chat_template` must be a Jinja text or a file, got {given!s}: no "
            "such file."
        )
    with path.open("rb") as file:
        data = file.read(4 * TEMPLATE_MAX + 4)
    try:
        return ChatTemplate(data.decode("utf-8-sig"), **texts)
    except UnicodeDecodeError as error:
        raise ChatTemplateError(f"{path}: the chat template is not UTF-8.") from error


def _check_dicts(who: str, name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(item, Mapping) for item in value
    ):
        raise TypeError(
            f"{who}: `{name}` must be a list of dicts (tools as JSON schemas), got "
            f"{check.short(value)}."
        )
