"""A conversation becomes the tokens that its template writes, whatever a caller gives."""

import pytest

from jaxdecode.text import ChatTemplate, ChatTemplateError, LanguageModel
from jaxdecode.text.chat_template import chat_pieces
from tests import tiny
from tests.text.tiny_texts import (
    END,
    MESSAGES,
    START,
    STEPS,
    TEMPLATE,
    language_model,
    sampler,
    small_vocabulary,
    tokens_of,
)


def test_chat_answers_the_tokens_of_the_conversation():
    lm = language_model()
    prompt = lm.tokenizer.encode_pieces(chat_pieces(TEMPLATE, MESSAGES, lm.tokenizer))
    assert prompt == [START, *lm.encode("hello <|end|>"), START]
    (row,) = tokens_of(lm, [prompt], 2)
    options = {"key": 2, "sampler": sampler(), "max_new_tokens": STEPS}
    assert lm.chat(MESSAGES, **options) == lm.decode(row)
    assert "".join(lm.stream_chat(MESSAGES, **options)) == lm.decode(row)


def test_a_model_without_chat_template_says_so():
    lm = LanguageModel(tiny.bag(), tokenizer=small_vocabulary())
    with pytest.raises(ChatTemplateError, match="must come with a chat template"):
        lm.chat(MESSAGES, key=0)


def test_a_template_that_makes_no_tokens_is_refused():
    lm = LanguageModel(
        tiny.bag(), tokenizer=small_vocabulary(), chat_template=ChatTemplate("")
    )
    with pytest.raises(ChatTemplateError, match="at least one token"):
        lm.chat(MESSAGES, key=0)


TOOLS = [{"type": "function", "function": {"name": "f", "description": "d"}}]
FULL = ChatTemplate(
    "{% if enable_thinking is defined %}<{{ enable_thinking | lower }}>{% endif %}"
    "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
    "{% for d in documents or [] %}{{ d.text }}{% endfor %}{{ mood }}"
    "{% for m in messages %}<|start|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>a{% endif %}"
)


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        ({}, "<|start|>hi<|end|><|start|>a"),
        ({"tools": TOOLS}, "f<|start|>hi<|end|><|start|>a"),
        ({"tools": None, "mood": "z"}, "z<|start|>hi<|end|><|start|>a"),
        ({"documents": [{"text": "doc"}]}, "doc<|start|>hi<|end|><|start|>a"),
        ({"enable_thinking": False}, "<false><|start|>hi<|end|><|start|>a"),
        ({"enable_thinking": None}, "<|start|>hi<|end|><|start|>a"),
        ({"add_generation_prompt": False}, "<|start|>hi<|end|>"),
        ({"continue_final_message": True}, "<|start|>hi"),
        (
            {"continue_final_message": True, "add_generation_prompt": False},
            "<|start|>hi",
        ),
        ({"chat_template": "x{{ messages[0].content }}"}, "xhi"),
        ({"chat_template": "x{{ messages[0].content }}{{ far }}", "far": "y"}, "xhiy"),
        ({"chat_template": TEMPLATE}, "<|start|>hi<|start|>"),
    ],
)
def test_a_conversation_is_rendered_with_what_the_caller_gives(options, prompt):
    lm = LanguageModel(
        tiny.bag(), tokenizer=small_vocabulary(), eos_ids=(END,), chat_template=FULL
    )
    ids = lm.encode(prompt, parse_special=True)
    (row,) = tokens_of(lm, [ids], 2)
    options = options | {"key": 2, "sampler": sampler(), "max_new_tokens": STEPS}
    messages = [{"role": "user", "content": "hi"}]
    assert lm.chat(messages, **options) == lm.decode(row)
    assert "".join(lm.stream_chat(messages, **options)) == lm.decode(row)


def test_a_continued_message_keeps_the_space_before_its_next_word():
    lm = language_model("spaces")
    word = lm.tokenizer.encode("h", add_special=False)[0]
    options = {"key": 0, "sampler": sampler([word]), "max_new_tokens": 1}
    assert lm.chat(MESSAGES, **options) == "h"
    assert lm.chat(MESSAGES, continue_final_message=True, **options) == " h"


def test_a_template_may_come_from_a_file(tmp_path):
    lm = LanguageModel(
        tiny.bag(),
        tokenizer=small_vocabulary(),
        special_texts={"bos_token": "<|start|>"},
    )
    path = tmp_path / "template.jinja"
    path.write_bytes(b"\xef\xbb\xbf{{ bos_token }}\r\n{{ messages[0].content }}")
    options = {"key": 2, "sampler": sampler(), "max_new_tokens": STEPS}
    messages = [{"role": "user", "content": "hi"}]
    given = "{{ bos_token }}\n{{ messages[0].content }}"
    with pytest.raises(ValueError, match="no token for"):
        lm.chat(messages, chat_template=given, **options)  # it has no line end
    given = given.replace("\n", "")
    path.write_bytes(b"\xef\xbb\xbf{{ bos_token }}{{ messages[0].content }}")
    expected = lm.chat(messages, chat_template=given, **options)
    assert lm.chat(messages, chat_template=path, **options) == expected
    assert lm.chat(messages, chat_template=str(path), **options) == expected


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"tools": [len]}, TypeError, "`tools` must be a list of dicts"),
        ({"tools": {"name": "f"}}, TypeError, "`tools` must be a list of dicts"),
        ({"documents": ["a"]}, TypeError, "`documents` must be a list of dicts"),
        ({"tools": [{"f": len}]}, TypeError, "`tools` must be plain data"),
        ({"mood": b"a"}, TypeError, "`mood` must be plain data"),
        ({"mood": "\ud800"}, ValueError, "`mood` must be text without lone"),
        ({"mod": "a"}, TypeError, "got `mod`; did you mean `mood`"),
        ({"enable_thinkin": 1}, TypeError, "did you mean `enable_thinking`"),
        ({"add_generation_prompt": 1}, TypeError, "must be True or False"),
        ({"continue_final_message": "no"}, TypeError, "must be True or False"),
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            ValueError,
            "must not be True together",
        ),
        ({"chat_template": 3}, TypeError, "`chat_template` must be a Jinja text"),
        ({"chat_template": "no/file"}, FileNotFoundError, "no such file"),
        ({"chat_template": "{% if %}"}, ChatTemplateError, "line 1"),
    ],
)
def test_what_a_conversation_cannot_be_rendered_with_is_refused(options, kind, message):
    lm = LanguageModel(
        tiny.bag(), tokenizer=small_vocabulary(), eos_ids=(END,), chat_template=FULL
    )
    for call in (lm.chat, lm.stream_chat):
        with pytest.raises(kind, match=message):
            call([{"role": "user", "content": "hi"}], key=0, **options)
