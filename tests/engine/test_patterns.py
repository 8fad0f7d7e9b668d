"""Requests whose texts must fit: what is written in company is what is written alone."""

import random
import re

import pytest

import jaxdecode as jd
from jaxdecode.engine import Engine
from jaxdecode.engine.batch import Defaults
from jaxdecode.testing import count_compiles
from tests.engine.engine_cases import SHAPE, engine, language_model
from tests.engine.lines import DEFAULTS, answered, objects, write
from tests.text import tiny_texts

SHORT, LONG = "[ab]{2}(é|日)?", "(c|d){3,6}e"
# Too many states for the sizes that small patterns share: another structure.
MANY = ["".join(random.Random(n).choices("klmno", k=9)) for n in range(40)]
SCHEMA = {"type": ["boolean", "null"]}  # what the vocabulary can spell of JSON
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
MESSAGES = [{"role": "user", "content": "hello"}]
# What a line asks for, and the same as an option of a language model's methods.
KINDS = [
    ({"regex": SHORT}, {"regex": SHORT}),
    ({"regex": LONG}, {"regex": LONG}),
    ({"choices": MANY}, {"choices": MANY}),
    ({"response_format": FORMAT}, {"schema": SCHEMA}),
    ({"response_format": {"type": "text"}}, {}),
]


def lines():
    """Return lines of every kind, as plain lines and in envelopes, and what they ask."""
    found = []
    for index, (fields, options) in enumerate(KINDS * 2):
        body = {"seed": index, "max_tokens": 12, "temperature": 1.0 + index / 10}
        asked = {"prompt": "hello"} if index % 2 else {"messages": MESSAGES}
        line = {**asked, **body, **fields}
        if index < len(KINDS):
            line["id"] = index
        else:
            line = {"custom_id": index, "body": line}
        found.append((line, body, options))
    return found


def alone(body, options, is_chat):
    """Return what a language model writes for one line."""
    lm = language_model()
    given = {
        "key": [body["seed"]],
        "sampler": jd.joint(temperature=body["temperature"], top_k=12),
        "max_new_tokens": body["max_tokens"],
        **options,
    }
    return lm.chat(MESSAGES, **given) if is_chat else lm.generate(["hello"], **given)[0]


def fits(text, options):
    if "regex" in options:
        return re.fullmatch(options["regex"], text)
    if "choices" in options:
        return text in options["choices"]
    return "schema" not in options or text in ("true", "false", "null")


def text_of(answer):
    if "custom_id" not in answer:
        return answer["text"]
    (choice,) = answer["response"]["body"]["choices"]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def test_lines_with_patterns_are_answered_as_a_language_model_does(tmp_path):
    asked = lines()
    source = write(tmp_path / "in", [line for line, _, _ in asked])
    found = objects(answered(source, tmp_path / "out", to=engine(chunk=3)))
    for answer, (line, body, options) in zip(found, asked, strict=True):
        text = text_of(answer)
        assert fits(text, options), (line, text)
        is_chat = "messages" in line.get("body", line)
        assert text == alone(body, options, is_chat), line


def test_patterns_of_about_one_size_share_a_structure():
    to = engine()
    structures = [
        to.submit("a", key=0, max_new_tokens=12, **options).asked.structure
        for _, options in KINDS
    ]
    assert structures[0] == structures[1] == structures[3]
    assert len(set(structures)) == 3  # small tables, larger ones, and none


def test_a_request_with_a_pattern_is_what_generate_makes_of_it():
    to, lm = engine(), language_model()
    given = {"sampler": jd.joint(temperature=1.4), "max_new_tokens": 9}
    jobs = [
        to.submit("ab", key=key, num_samples=2, regex=pattern, **given)
        for key, pattern in enumerate([SHORT, LONG, SHORT])
    ]
    for key, job in enumerate(jobs):
        pattern = (SHORT, LONG, SHORT)[key]
        wanted = lm.generate(["ab"], key=[key], num_samples=2, regex=pattern, **given)
        assert [sample.text for sample in job.result().samples] == wanted[0]
        assert all(sample.finish_reason == "stop" for sample in job.result().samples)


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_warm_engine_compiles_nothing_for_other_patterns(by_hand):
    to, long = engine(), "a{9}"
    link = jd.Matches([jd.Regex(long, language_model())])
    one = {"sampler": jd.chain(link, jd.joint())} if by_hand else {"regex": long}
    to.warm_up(**one)
    with count_compiles() as compiles:
        for pattern in (LONG, SHORT):
            if by_hand:
                link = jd.Matches([jd.Regex(pattern, language_model())])
                one = {"sampler": jd.chain(link, jd.joint(temperature=0.8))}
            else:
                one = {"regex": pattern}
            text = (
                to.submit("ab", key=1, max_new_tokens=9, **one).result().samples[0].text
            )
            assert re.fullmatch(pattern, text)
    assert compiles.count == 0


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_space_at_the_start_of_an_answer_belongs_to_the_match(by_hand):
    lm = tiny_texts.language_model("spaces")
    to = Engine(lm, **SHAPE)
    asked = {"choices": [" hello"]}
    if by_hand:
        asked = {"sampler": jd.chain(jd.Choice([" hello"], lm), jd.joint())}
    job = to.submit(MESSAGES, key=0, max_new_tokens=9, **asked)
    assert job.result().samples[0].text == " hello"
    assert lm.chat(MESSAGES, key=0, max_new_tokens=9, **asked) == " hello"


BAD = [
    ({"regex": "("}, "invalid_pattern", "must be a regular expression"),
    ({"regex": "(?=a)"}, "invalid_pattern", "look-ahead"),
    ({"regex": "[0-9]"}, "invalid_pattern", "must spell a text"),
    ({"regex": ".{5000}"}, "invalid_pattern", "too large"),
    ({"regex": "\ud800"}, "invalid_pattern", "it matches none"),
    ({"regex": 5}, "invalid_type", "`pattern` must be a str"),
    ({"regex": "a{12}"}, "invalid_value", "`max_new_tokens` must be >= 13"),
    ({"regex": "a", "ignore_eos": True}, "invalid_value", "`eos_ids` must hold"),
    ({"regex": "a", "choices": ["a"]}, "unsupported", "`regex` and `choices`"),
    ({"choices": []}, "invalid_value", "at least one text"),
    ({"choices": "ab"}, "invalid_type", "must be a list of str"),
    ({"choices": ["\ud800"]}, "invalid_value", "surrogates"),
    ({"response_format": {}}, "invalid_value", "must have the key 'type'"),
    ({"response_format": []}, "invalid_type", "must be a dict"),
    ({"response_format": {"type": "json_object"}}, "invalid_value", "'json_object'"),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"schema": {"not": {}}},
            }
        },
        "invalid_pattern",
        "not",
    ),
]


def test_a_pattern_that_cannot_be_kept_gets_an_error_line(tmp_path):
    asked = [
        {"id": index, "prompt": "a", "max_tokens": 12, **fields}
        for index, (fields, _, _) in enumerate(BAD)
    ]
    asked.insert(3, {"id": "good", "prompt": "a", "regex": "ab"})
    asked += [
        {"custom_id": f"e{index}", "body": {"prompt": "a", "max_tokens": 12, **fields}}
        for index, (fields, _, _) in enumerate(BAD)
    ]
    source = write(tmp_path / "in", asked)
    found = objects(answered(source, tmp_path / "out"))
    assert found.pop(3)["text"] == "ab"
    for answer, (fields, code, message) in zip(found, BAD * 2, strict=True):
        assert answer["error"]["code"] == code, (fields, answer)
        assert message in answer["error"]["message"], (fields, answer)


def test_a_run_without_ends_refuses_patterns_only(tmp_path):
    asked = [{"id": 0, "prompt": "a", "regex": "a"}, {"id": 1, "prompt": "a"}]
    source = write(tmp_path / "in", asked)
    defaults = Defaults(DEFAULTS.sampling, max_tokens=6, ignore_eos=True)
    found = objects(answered(source, tmp_path / "out", defaults=defaults))
    assert found[0]["error"]["code"] == "invalid_value"
    assert found[1]["usage"]["completion_tokens"] == 6
