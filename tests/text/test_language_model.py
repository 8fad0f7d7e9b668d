"""Text in, text out: the same tokens as `decode.generate`, bad input refused early."""

import inspect

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.text import ChatTemplate, LanguageModel, TokenizerError
from jaxdecode.text.options import BeamOptions, TextOptions
from tests import tiny
from tests.text.tiny_texts import (
    END,
    MESSAGES,
    START,
    STEPS,
    language_model,
    sampler,
    small_vocabulary,
    tokens_of,
)


def test_text_is_the_decoded_continuation_without_the_prompt():
    lm = language_model()
    (row,) = tokens_of(lm, [lm.encode("hello w")], 3)
    text = lm.generate("hello w", key=3, sampler=sampler(), max_new_tokens=STEPS)
    assert type(text) is str
    assert text == lm.decode(row)


def test_a_list_of_prompts_gives_a_list_of_texts():
    lm = language_model()
    prompts = ["hello", "wo"]
    rows = tokens_of(lm, [lm.encode(p) for p in prompts], 5)
    texts = lm.generate(prompts, key=5, sampler=sampler(), max_new_tokens=STEPS)
    assert texts == [lm.decode(row) for row in rows]


def test_several_samples_come_as_a_list_for_each_prompt():
    lm = language_model()
    options = {"sampler": sampler(), "max_new_tokens": STEPS, "num_samples": 2}
    rows = tokens_of(lm, [lm.encode("hello"), lm.encode("wo")], 5, num_samples=2)
    texts = [lm.decode(row) for row in rows]
    both = lm.generate(["hello", "wo"], key=5, **options)
    assert both == [texts[:2], texts[2:]]
    one = lm.generate("hello", key=5, **options)
    assert one == both[0]


def test_settings_may_be_one_per_prompt():
    lm = language_model()
    options = {
        "sampler": sampler(temperature=np.float32([0.5, 1.3])),
        "max_new_tokens": [1, 5],
        "eos_ids": (),
    }
    texts = lm.generate(["hello", "hello"], key=7, **options)
    rows = tokens_of(lm, [lm.encode("hello")] * 2, 7, **options)
    assert [len(row) for row in rows] == [1, 5]
    assert texts == [lm.decode(row) for row in rows]


@pytest.mark.parametrize("style", ["bytes", "spaces"])
@pytest.mark.parametrize("seed", range(5))
def test_streamed_pieces_join_to_the_generated_text(style, seed):
    lm = language_model(style)
    options = {"key": seed, "sampler": sampler(), "max_new_tokens": 13}
    pieces = list(lm.stream("hello", **options))
    assert "".join(pieces) == lm.generate("hello", **options)
    assert all(pieces)


def test_a_continuation_keeps_the_space_before_its_first_word():
    lm = language_model("spaces")
    word = lm.tokenizer.encode("h", add_special=False)[0]
    assert lm.tokenizer.token(word) == "▁h"
    options = {"key": 0, "sampler": sampler([word]), "max_new_tokens": 1}
    assert lm.generate("hello", **options) == " h"
    assert list(lm.stream("hello", **options)) == [" h"]
    assert lm.chat(MESSAGES, **options) == "h"


def test_eos_ids_may_be_switched_off_for_one_call():
    lm = language_model()
    x = lm.encode("x")
    options = {"key": 0, "sampler": sampler(x), "max_new_tokens": 3}
    assert lm.generate("hello", eos_ids=x, **options) == "x"
    assert lm.generate("hello", **options) == "xxx"
    options["sampler"] = sampler([END])
    assert lm.generate("hello", **options) == ""
    assert list(lm.stream("hello", **options)) == []


def test_control_tokens_of_a_prompt_are_text_unless_asked_for():
    lm = language_model()
    assert END not in lm.encode("<|end|>")
    assert lm.encode("<|end|>", parse_special=True) == [END]
    options = {"key": 1, "sampler": sampler(), "max_new_tokens": STEPS}
    (row,) = tokens_of(lm, [[END]], 1)
    assert lm.generate("<|end|>", parse_special=True, **options) == lm.decode(row)


def test_an_invalid_row_warns_and_gives_the_text_so_far():
    a = small_vocabulary().encode("a")[0]
    model = tiny.bag(poison={a: np.nan})
    lm = LanguageModel(model, tokenizer=small_vocabulary())
    with pytest.warns(RuntimeWarning, match="row 1 ended early"):
        texts = lm.generate(["b", "a"], key=0, sampler=sampler(), max_new_tokens=1)
    assert len(texts[0]) == 1
    assert texts[1] == ""
    with pytest.warns(RuntimeWarning, match="row 0 ended early"):
        assert list(lm.stream("a", key=0, sampler=sampler(), max_new_tokens=2)) == []


@pytest.mark.parametrize("method", ["generate", "stream"])
def test_an_empty_prompt_is_refused(method):
    call = getattr(language_model(), method)
    with pytest.raises(
        ValueError, match="`prompt` must have at least one token, got ''"
    ):
        call("", key=0)


def test_an_empty_prompt_in_a_list_is_named():
    with pytest.raises(ValueError, match=r"`prompt\[1\]` must have at least one token"):
        language_model().generate(["a", ""], key=0)


@pytest.mark.parametrize("special", [True, None])
def test_a_text_that_begins_with_the_begin_token_does_not_get_a_second_one(special):
    tokenizer = small_vocabulary(add_bos_token=True, bos_token_id=START)
    once = tokenizer.encode("abc", add_special=special)
    assert once[0] == START
    with pytest.warns(
        RuntimeWarning, match=r"Tokenizer\.encode: .*'<\|start\|>' itself"
    ):
        twice = tokenizer.encode(
            "<|start|>abc", parse_special=True, add_special=special
        )
    assert twice == once
    # as text, or in another place, it is not a second one
    assert tokenizer.encode("<|start|>")[:2] == [START, *tokenizer.encode("<")[1:]]
    assert tokenizer.encode("a<|start|>", parse_special=True)[0] == START
    both = tokenizer.encode("<|start|><|start|>", parse_special=True, add_special=False)
    assert both == [START, START]


def test_a_prompt_that_begins_with_the_begin_token_warns():
    tokenizer = small_vocabulary(add_bos_token=True, bos_token_id=START)
    lm = LanguageModel(
        tiny.bag(), tokenizer=tokenizer, eos_ids=(END,), chat_template=ASK_WITH_BEGIN
    )
    options = {"key": 0, "sampler": sampler(), "max_new_tokens": STEPS}
    plain = lm.generate("abc", **options)
    with pytest.warns(
        RuntimeWarning, match=r"LanguageModel\.generate: the text begins"
    ):
        marked = lm.generate("<|start|>abc", parse_special=True, **options)
    assert marked == plain
    with pytest.warns(RuntimeWarning, match=r"LanguageModel\.stream: the text begins"):
        assert (
            "".join(lm.stream("<|start|>abc", parse_special=True, **options)) == plain
        )
    # a template writes it, and nothing else does
    assert lm.chat([{"role": "user", "content": "abc"}], **options) == plain


def test_a_begin_token_is_a_prompt_of_its_own():
    tokenizer = small_vocabulary(add_bos_token=True, bos_token_id=5)
    lm = LanguageModel(tiny.bag(), tokenizer=tokenizer, eos_ids=(END,))
    (row,) = tokens_of(lm, [[5]], 0)
    text = lm.generate("", key=0, sampler=sampler(), max_new_tokens=STEPS)
    assert text == lm.decode(row)


@pytest.mark.parametrize("prompt", [None, 3, b"a", {"a": 1}, [1, 2], [["a"]]])
def test_a_prompt_that_is_not_text_is_refused(prompt):
    with pytest.raises(TypeError, match=r"LanguageModel\.generate: `prompt.*` must be"):
        language_model().generate(prompt, key=0)


def test_no_prompts_are_refused():
    with pytest.raises(ValueError, match="`prompt` must hold at least one text"):
        language_model().generate([], key=0)


def test_a_stream_takes_one_prompt():
    with pytest.raises(TypeError, match=r"stream: `prompt` must be a str, got \['a'\]"):
        language_model().stream(["a"], key=0)


def test_a_prompt_beyond_the_models_length_is_refused_at_the_call():
    lm = language_model()
    for call in (lm.generate, lm.stream):
        with pytest.raises(ValueError, match="must be <= 48, the model's"):
            call("hello", key=0, max_new_tokens=99)


def test_a_key_must_be_given():
    with pytest.raises(TypeError, match="key"):
        language_model().generate("hello")


def test_a_model_without_tokenizer_says_so():
    lm = LanguageModel(tiny.bag())
    with pytest.raises(TokenizerError, match="must come with a tokenizer, got none"):
        lm.generate("hello", key=0)
    with pytest.raises(TokenizerError, match="must come with a tokenizer"):
        lm.encode("hello")


def test_it_prints_as_one_short_line():
    lm = LanguageModel(tiny.bag(), tokenizer=small_vocabulary(), name="tiny")
    assert repr(lm) == (
        "LanguageModel('tiny', vocab_size=37, max_length=48, no chat template)"
    )


def test_the_same_key_gives_the_same_text_as_one_key_per_prompt():
    lm = language_model()
    key = jax.random.key(13)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(1))
    options = {"sampler": sampler(), "max_new_tokens": STEPS}
    assert (
        lm.generate("wo", key=key, **options)
        == lm.generate(["wo"], key=keys, **options)[0]
    )


OPTIONS = ["sampler", "max_new_tokens", "eos_ids", "stop", "stop_strings", "keep_stop"]
PATTERNS = ["regex", "schema", "choices"]  # see test_patterns.py


@pytest.mark.parametrize("method", ["stream", "chat", "stream_chat", "beam_search"])
def test_an_unknown_option_is_refused_by_name_before_anything_is_encoded(method):
    lm = LanguageModel(tiny.bag())  # without a tokenizer: encoding would fail
    key = {} if method == "beam_search" else {"key": 0}
    message = rf"LanguageModel\.{method}: .* got `max_tokens`; did you mean"
    with pytest.raises(TypeError, match=message):
        getattr(lm, method)("a", max_tokens=3, **key)
    name = "parse_special" if "chat" in method else "parse_specials"
    with pytest.raises(TypeError, match=rf"{method}: .* got `{name}`"):
        getattr(lm, method)("a", **{name: True}, **key)


def test_every_method_takes_the_options_that_generate_takes():
    shared = list(TextOptions.__annotations__)
    assert shared == OPTIONS + PATTERNS
    assert set(shared) < set(inspect.signature(LanguageModel.generate).parameters)
    lm = language_model()
    options = {
        "key": 0, "sampler": sampler(), "max_new_tokens": STEPS, "eos_ids": [2],
        "stop": [[3, 4]], "stop_strings": "zz", "keep_stop": True,
    }  # fmt: skip
    assert "".join(lm.stream("hello", **options)) == lm.generate("hello", **options)
    pieces = lm.stream_chat(MESSAGES, **options)
    assert "".join(pieces) == lm.chat(MESSAGES, **options)


def test_the_options_of_a_beam_search_are_those_of_the_library():
    known = set(inspect.signature(jd.beam_search).parameters)
    named = set(BeamOptions.__annotations__)
    assert known - named == {"model", "prompts", "pad_id", "return_parents"}
    assert named - set(PATTERNS) < known


def test_a_beam_search_in_text_is_that_of_the_library():
    lm = language_model()
    options = {"num_beams": 3, "max_new_tokens": 5, "num_return": 2}
    beams = jd.beam_search(lm.model, [lm.encode("wo")], eos_ids=[END], **options)
    found = lm.beam_search("wo", **options)
    assert len(found) == 2
    for rank, one in enumerate(found):
        length = int(beams.lengths[0, rank])
        assert list(one.tokens) == np.asarray(beams.tokens)[0, rank, :length].tolist()
        assert one.text == lm.decode(one.tokens)
        assert one.score == float(beams.scores[0, rank])
    with pytest.raises(TypeError, match=r"beam_search: `prompt` must be a str"):
        lm.beam_search(["wo"], **options)
    with pytest.raises(TypeError, match="num_beams"):
        lm.beam_search("wo")


def test_a_warning_names_the_line_that_asked_for_the_text():
    a = small_vocabulary().encode("a")[0]
    model = tiny.bag(poison={a: np.nan})
    lm = LanguageModel(model, tokenizer=small_vocabulary(), chat_template=ASK)
    options = {"key": 0, "sampler": sampler(), "max_new_tokens": 1}
    for ask in (
        lambda: lm.generate("a", **options),
        lambda: list(lm.stream("a", **options)),
        lambda: lm.chat([{"role": "user", "content": "a"}], **options),
    ):
        with pytest.warns(RuntimeWarning, match="row 0 ended early") as caught:
            ask()
        assert caught[0].filename == __file__


ASK = ChatTemplate("{{ messages[0].content }}")
ASK_WITH_BEGIN = ChatTemplate("<|start|>{{ messages[0].content }}")
