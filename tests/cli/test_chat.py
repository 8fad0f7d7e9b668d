"""`jaxdecode chat` around a fake model: single answers and conversations."""

import builtins
import io
import sys

import pytest


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.fixture
def talk(run, monkeypatch):
    """Return a function that types lines into a conversation; an error is raised."""

    def call(*lines, argv=()):
        typed = iter(lines)

        def ask(prompt=""):
            line = next(typed, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
        monkeypatch.setattr(builtins, "input", ask)
        return run("chat", "--seed", "1", *argv)

    return call


def message(role, content):
    return {"role": role, "content": content}


def stopped_after(words):
    yield from words
    raise KeyboardInterrupt


ANSWER = message("assistant", "w5 w7 w11 ")


def test_a_message_is_answered_once(model, run):
    code, out, _ = run("chat", "hi", "--seed", "1")
    assert (code, out) == (0, "w5 w7 w11 \n")
    assert [messages for messages, _ in model.calls] == [[message("user", "hi")]]


def test_a_system_message_comes_first(model, run):
    run("chat", "hi", "--system", "Be brief.")
    assert model.calls[0][0] == [message("system", "Be brief."), message("user", "hi")]


def test_without_a_terminal_standard_input_is_the_message(model, run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hi\n")))
    run("chat")
    assert model.calls[0][0] == [message("user", "hi")]


def test_a_conversation_remembers_what_was_said(model, talk):
    code, out, _ = talk("one", "two")
    assert (code, out) == (0, "w5 w7 w11 \nw5 w7 w11 \n\n")
    assert model.calls[1][0] == [message("user", "one"), ANSWER, message("user", "two")]


def test_quit_ends_a_conversation(model, talk):
    assert talk("/quit", "never asked")[0] == 0
    assert model.calls == []


def test_ctrl_c_at_the_prompt_ends_a_conversation(model, talk):
    assert talk(KeyboardInterrupt(), "never asked")[0] == 0
    assert model.calls == []


def test_clear_forgets_all_but_the_system_message(model, talk):
    talk("one", "/clear", "two", argv=("--system", "Be brief."))
    assert model.calls[1][0] == [message("system", "Be brief."), message("user", "two")]


def test_an_empty_line_asks_nothing(model, talk):
    talk("", "  ")
    assert model.calls == []


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said_of_it(model, talk, monkeypatch):
    answers = iter([stopped_after(["w5 "]), iter(["w7"])])
    asked = []

    def stream_chat(messages, **settings):
        asked.append(messages)
        return next(answers)

    monkeypatch.setattr(model, "stream_chat", stream_chat)
    code, out, _ = talk("one", "two")
    assert (code, out) == (0, "w5 \nw7\n\n")
    assert asked[1] == [
        message("user", "one"),
        message("assistant", "w5 "),
        message("user", "two"),
    ]


def test_a_refused_turn_is_forgotten_and_the_conversation_goes_on(
    model, talk, monkeypatch
):
    answer, refused = model.stream_chat, []

    def stream_chat(messages, **settings):
        if not refused:
            refused.append(True)
            from jaxdecode.core import check

            check.seed("too long", -1)
        return answer(messages, **settings)

    monkeypatch.setattr(model, "stream_chat", stream_chat)
    code, _, err = talk("one", "two")
    assert code == 0
    assert "jaxdecode: too long" in err
    assert model.calls[0][0] == [message("user", "two")]


def test_stats_of_a_turn_leave_out_what_came_before(model, talk, monkeypatch):
    stopped = iter([True])

    def stream_chat(messages, **settings):
        tokenizer = loaded().tokenizer
        tokenizer.stream()
        for token in model.words:
            yield tokenizer.bytes_of(token).decode()
            if next(stopped, False):
                raise KeyboardInterrupt

    loaded = watched(monkeypatch)
    monkeypatch.setattr(model, "stream_chat", stream_chat)
    err = talk("one", "two", argv=("--stats",))[2]
    assert err.count(" tokens;") == 1
    assert "; 4 tokens; ended by end of text" in err


def watched(monkeypatch):
    """Return a function that gives the model which the command works with."""
    from jaxdecode.cli import runtime

    sessions, open_session = [], runtime.open_session

    def take(options, **more):
        sessions.append(open_session(options, **more))
        return sessions[-1]

    monkeypatch.setattr(runtime, "open_session", take)
    return lambda: sessions[-1].model


def test_a_template_may_be_given(model, run, tmp_path):
    path = str(tmp_path / "template.jinja")
    run("chat", "hi", "--seed", "1", "--chat-template", path)
    run("chat", "hi", "--seed", "1")
    given = [options.get("chat_template") for _, options in model.calls]
    assert given == [path, None]
