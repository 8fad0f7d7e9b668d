"""`jaxdecode chat`: answer a message, or talk."""

import contextlib
import sys
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import DisallowNone, Positional, subcommand

from jaxdecode.cli import errors, interrupt, output, runtime
from jaxdecode.cli.options import Decoding

PROMPT = "> "
WELCOME = "Ctrl-C stops an answer, /clear forgets what was said, /quit or Ctrl-D ends."

Message = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Chat(Decoding):
    """Answer a message, or talk if there is none."""

    message: Positional[DisallowNone[str | None]] = None
    """What to answer; - reads it from standard input; without it, a conversation."""

    system: DisallowNone[str | None] = None
    """A system message, put before everything else."""


Command = Annotated[Chat, subcommand("chat")]


def run(args: Chat) -> int:
    """Answer one message, or as many as come."""
    talks = args.message is None and sys.stdin.isatty()
    given = "-" if args.message is None else args.message
    message = "" if talks else output.read_text("message", given)
    conversation = Conversation(runtime.take_seat(args), args.system)
    if talks:
        with interrupt.answer_late():
            return _talk(conversation)
    with interrupt.leave_at_once():
        conversation.answer(message)
    return 0


class Conversation:
    """What was said so far, and the model that goes on with it."""

    def __init__(self, seat: runtime.Seat, system: str | None):
        """Begin with a system message, if there is one."""
        self.seat = seat
        self.opening: list[Message] = [_said("system", system)] if system else []
        self.messages = list(self.opening)

    def answer(self, text: str) -> None:
        """Stream an answer to `text`; what was said of it is kept if it is stopped.

        Raises:
          ValueError: if the conversation has no room for another turn.
          KeyboardInterrupt: if it was stopped.
        """
        asked = [*self.messages, _said("user", text)]
        pieces: list[str] = []
        try:
            stream = self.seat.model.stream_chat(asked, **self.seat.settings)
            output.show(stream, kept=pieces)
            self.seat.report()
        finally:
            if pieces:
                self.messages = [*asked, _said("assistant", "".join(pieces))]

    def clear(self) -> None:
        """Forget everything but the system message."""
        self.messages = list(self.opening)


def _talk(conversation: Conversation) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and earlier lines in `input`)
    output.note(WELCOME)
    while (line := _ask()) is not None:
        if line == "/clear":
            conversation.clear()
        elif line:
            _take_turn(conversation, line)
    return 0


def _ask() -> str | None:
    """Return the next line; None when there will be none."""
    try:
        line = input(PROMPT).strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return None if line == "/quit" else line


def _take_turn(conversation: Conversation, line: str) -> None:
    conversation.seat.begin()
    try:
        conversation.answer(line)
    except KeyboardInterrupt:
        print()
    except ValueError as error:
        if not errors.is_users(error):
            raise
        errors.tell(errors.explain(error)[1])


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}
