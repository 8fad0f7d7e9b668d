"""Text that fits: a pattern as an option of every method of a language model."""

import json
import re

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.transforms.patterns import store
from tests.text.tiny_texts import (
    END,
    MESSAGES,
    STEPS,
    language_model,
    sampler,
)

WORD = "[ab]{2}(é|日)?"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)


def write(method, key=0, **options):
    options = {"max_new_tokens": STEPS, "sampler": sampler(), **options}
    prompt = MESSAGES if "chat" in method else "hello w"
    text = getattr(language_model(), method)(prompt, key=key, **options)
    return text if isinstance(text, str) else "".join(text)


@pytest.mark.parametrize("method", ["generate", "stream", "chat", "stream_chat"])
def test_the_text_fits_whatever_the_method(method):
    for key in range(3):
        assert re.fullmatch(WORD, write(method, key, regex=WORD))
        assert write(method, key, choices=["hello", "no way"]) in ("hello", "no way")


def test_the_pattern_is_the_first_link_of_the_sampler():
    lm = language_model()
    link = jd.Regex(WORD, lm)
    by_hand = jd.chain(link, sampler())
    assert write("generate", 5, regex=WORD) == write("generate", 5, sampler=by_hand)


def test_without_a_sampler_the_model_draws_among_what_fits():
    assert re.fullmatch(WORD, write("generate", 3, regex=WORD, sampler=None))


def test_a_beam_search_finds_texts_that_fit():
    options = {"num_beams": 3, "num_return": 3, "max_new_tokens": 5}
    found = language_model().beam_search("hello", regex=WORD, **options)
    assert found
    assert all(re.fullmatch(WORD, one.text) for one in found)


def test_a_schema_is_a_dict_or_a_text():
    # The vocabulary has no quotes and no digits: null is all that it can spell.
    schema = {"type": ["null", "integer"]}
    assert write("generate", schema=schema) == "null"
    assert write("generate", schema=json.dumps(schema)) == "null"


def test_a_space_at_the_start_of_an_answer_belongs_to_the_match():
    lm = language_model("spaces")
    options = {"sampler": sampler(), "max_new_tokens": STEPS}
    text = lm.chat(MESSAGES, key=0, choices=[" hello"], **options)
    assert text == " hello"


def test_a_tokenizer_knows_the_ends_of_its_model():
    tokenizer = language_model().tokenizer.ending_with([END])
    link = jd.Regex("a", tokenizer)
    rows = np.zeros((1, tokenizer.vocab_size), np.float32)
    after = jd.apply(link, rows, generated=[tokenizer.encode("a")])
    assert np.flatnonzero(np.asarray(after)[0] == 0).tolist() == [END]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"regex": "a", "choices": ["b"]}, TypeError, "at most one of `regex`"),
        ({"regex": "a{9}"}, ValueError, r"`max_new_tokens` must be >= 10.*got 7"),
        ({"regex": "A"}, ValueError, "Regex: the vocabulary must spell"),
        ({"regex": "("}, ValueError, "Regex: the pattern must be a regular expr"),
        ({"regex": "a", "eos_ids": ()}, ValueError, "`eos_ids` must hold at least"),
        ({"choices": "ab"}, TypeError, "Choice: `texts` must be a list"),
        ({"schema": {"type": "set"}}, ValueError, "JsonSchema: .*no type 'set'"),
    ],
)
def test_a_pattern_that_cannot_be_kept_is_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        write("generate", **options)
