"""`jaxdecode chat`: answer one message, or hold a conversation."""

import contextlib
import sys
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import DisallowNone, Positional, subcommand

from jaxdecode.cli import errors, interrupt, output, runtime
from jaxdecode.cli.options import DecodingOptions

PROMPT = "> "
WELCOME = (
    "Ctrl-C stops an answer, /clear forgets the conversation, /quit or Ctrl-D ends it."
)

Message = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Chat(DecodingOptions):
    """Answer a message; without one, hold a conversation."""

    message: Positional[DisallowNone[str | None]] = None
    """What to answer; - reads it from standard input; without it, a conversation."""

    system: DisallowNone[str | None] = None
    """A system message, put before everything else."""

    chat_template: DisallowNone[str | None] = None
    """A file with a Jinja template, or its text, in place of the model's own."""


Command = Annotated[Chat, subcommand("chat")]


def run(args: Chat) -> int:
    """Answer one message, or hold a conversation on the terminal."""
    is_conversation = args.message is None and sys.stdin.isatty()
    given = "-" if args.message is None else args.message
    message = "" if is_conversation else output.read_text("message", given)
    session = runtime.open_session(args)
    if args.chat_template is not None:
        session.settings["chat_template"] = args.chat_template
    conversation = Conversation(session, args.system)
    if is_conversation:
        with interrupt.wait_for_python():
            return _converse(conversation)
    with interrupt.exit_at_once():
        conversation.answer(message)
    return 0


class Conversation:
    """The messages so far, and the model that answers them."""

    def __init__(self, session: runtime.Session, system: str | None):
        """Start with a system message, if there is one."""
        self.session = session
        self.opening: list[Message] = [_message("system", system)] if system else []
        self.messages = list(self.opening)

    def answer(self, text: str) -> None:
        """Print an answer to `text` while it is written; a stopped answer is kept.

        Raises:
          ValueError: if the conversation is too long for another answer.
          KeyboardInterrupt: if the answer was stopped.
        """
        asked = [*self.messages, _message("user", text)]
        pieces: list[str] = []
        try:
            stream = self.session.model.stream_chat(asked, **self.session.settings)
            output.show(stream, kept=pieces)
            self.session.report()
        finally:
            if pieces:
                self.messages = [*asked, _message("assistant", "".join(pieces))]

    def clear(self) -> None:
        """Forget everything but the system message."""
        self.messages = list(self.opening)


def _converse(conversation: Conversation) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and earlier lines in `input`)
    output.note(WELCOME)
    while (line := _next_line()) is not None:
        if line == "/clear":
            conversation.clear()
        elif line:
            _answer_line(conversation, line)
    return 0


def _next_line() -> str | None:
    """Return the next line; None at the end of the conversation."""
    try:
        line = input(PROMPT).strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return None if line == "/quit" else line


def _answer_line(conversation: Conversation, line: str) -> None:
    conversation.session.restart_clock()
    try:
        conversation.answer(line)
    except KeyboardInterrupt:
        print()
    except ValueError as error:
        if not errors.is_user_error(error):
            raise
        errors.print_line(errors.explain(error)[1])


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
