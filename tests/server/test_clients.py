"""What clients send besides: lists of prompts, alternatives, fields for other servers."""

import httpx
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.server import Limits, serving
from jaxdecode.text.conversation import Conversation
from tests.engine.engine_cases import engine, language_model
from tests.server.served import (
    MESSAGES,
    SAMPLING,
    client,
    generated,
    health,
    held,
    wait_until,
)
from tests.server.test_answers import joined
from tests.server.test_limits import post, refused

ASKED = {"seed": 11, "max_tokens": 9, **SAMPLING}
PROMPTS = ["hello w", "a b", "zz"]
TOP = 3


@pytest.fixture(scope="module")
def url():
    with serving(engine(), limits=Limits(queue=20)) as found:
        yield found


@pytest.fixture(scope="module")
def api(url):
    return client(url)


def complete(api, prompt="hello w", **options):
    return api.completions.create(model="tiny", prompt=prompt, **options)


def chat(api, **options):
    return api.chat.completions.create(model="tiny", messages=MESSAGES, **options)


def alone(prompts=PROMPTS, n=1):
    """What each prompt of a list becomes: seeds follow one another."""
    options = {name: value for name, value in ASKED.items() if name != "seed"}
    found = [
        generated(prompt, seed=11 + place, n=n, **options)
        for place, prompt in enumerate(prompts)
    ]
    return [text for texts in found for text in texts]


def observed(prompt, count):
    """What `generate` reports of the first text: the tokens and `count` beside each."""
    lm = language_model()
    out = jd.generate(
        lm.model,
        [prompt],
        [11],
        sampler=jd.joint(**SAMPLING),
        max_new_tokens=9,
        eos_ids=lm.eos_ids,
        observe=["top_logprobs:5"],
    )
    length = int(out.lengths[0])
    parts = {n: np.asarray(x)[0, :length, :count] for n, x in out.observations.items()}
    return out.tokens[0, :length].tolist(), parts


def spelled(token):
    return language_model().decode([token], skip_special=False)


# ---- lists of prompts


@pytest.mark.parametrize("n", [1, 2])
def test_each_prompt_of_a_list_gets_its_texts_in_order(api, n):
    found = complete(api, PROMPTS, n=n, **ASKED)
    assert [choice.text for choice in found.choices] == alone(n=n)
    assert [choice.index for choice in found.choices] == list(range(3 * n))
    assert found.usage.prompt_tokens == sum(map(len, PROMPTS))


def test_a_list_may_hold_token_ids_and_equal_prompts_get_other_texts(api):
    lm = language_model()
    same = complete(api, ["hello w"] * 3, **ASKED).choices
    assert len({choice.text for choice in same}) > 1
    assert [c.text for c in same] == alone(["hello w"] * 3)
    ids = complete(api, [lm.encode("hello w")] * 3, **ASKED).choices
    assert ids == same
    one = complete(api, ["hello w"], **ASKED).choices
    assert one == complete(api, **ASKED).choices == same[:1]


def test_a_stream_of_several_prompts_is_the_whole_in_pieces(api):
    whole = complete(api, PROMPTS, n=2, logprobs=2, **ASKED)
    options = {"stream_options": {"include_usage": True}, "logprobs": 2, **ASKED}
    *chunks, last = complete(api, PROMPTS, n=2, stream=True, **options)
    for choice in whole.choices:
        found = joined(chunks, choice.index, lambda choice: choice.text)
        assert found.text == choice.text
        assert found.reason == choice.finish_reason
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            pieces = [value for p in found.logprobs for value in getattr(p, name)]
            assert pieces == getattr(choice.logprobs, name)
    assert last.usage == whole.usage


def test_a_refused_prompt_ends_those_before_it():
    with held(limits=Limits(queue=20)) as (still, url):
        found = post(url, {"prompt": ["a", "b", "A"], "max_tokens": 40})
        assert "'A'" in refused(found, 400, "invalid_value")
        assert still.cancelled.is_set()
        still.let(3)
        wait_until(lambda: health(url).json()["texts"] == 0)
        assert [job.is_done for job in still.jobs] == [True, True]
        still.let(1000)
        assert post(url, {"prompt": ["a"] * 20, "max_tokens": 1}).is_success


def test_a_client_that_goes_away_frees_the_slots_of_all_prompts():
    body = {"prompt": ["a", "b"], "max_tokens": 40, "ignore_eos": True, "n": 2}
    with held() as (still, url):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url + "/completions", json=body, timeout=1.0)
        assert still.cancelled.wait(30)
        still.let(2)
        wait_until(lambda: health(url).json()["texts"] == 0)
        assert len(still.jobs) == 2
        reasons = [s.finish_reason for job in still.jobs for s in job.peek().samples]
        assert set(reasons) == {"cancelled"}


# ---- alternatives


def test_a_chat_lists_the_likeliest_tokens_beside_each(api):
    lm = language_model()
    said = Conversation(who="test", messages=MESSAGES, template=lm.chat_template)
    tokens, wanted = observed(said.encode(lm.tokenizer), TOP)
    content = chat(api, logprobs=True, top_logprobs=TOP, **ASKED)
    content = content.choices[0].logprobs.content
    assert [entry.token for entry in content] == list(map(spelled, tokens))
    rows = zip(wanted["top_ids"], wanted["top_logprobs"], strict=True)
    for entry, (ids, numbers) in zip(content, rows, strict=True):
        assert [e.token for e in entry.top_logprobs] == list(map(spelled, ids.tolist()))
        found = [e.logprob for e in entry.top_logprobs]
        assert found == pytest.approx(numbers.tolist(), abs=1e-5)
        for one in [entry, *entry.top_logprobs]:
            assert bytes(one.bytes).decode("utf-8", "replace") == one.token
    plain = chat(api, logprobs=True, **ASKED).choices[0].logprobs.content
    assert [e.logprob for e in plain] == [e.logprob for e in content]
    assert all(entry.top_logprobs == [] for entry in plain)


@pytest.mark.parametrize("count", [1, TOP, 5])
def test_alternatives_are_those_that_generate_reports(api, count):
    lm = language_model()
    tokens, wanted = observed(lm.encode("hello w"), count)
    found = complete(api, logprobs=count, **ASKED).choices[0].logprobs
    texts = list(map(spelled, tokens))
    assert found.tokens == texts
    assert found.text_offset == [sum(map(len, texts[:i])) for i in range(len(texts))]
    rows = zip(wanted["top_ids"], wanted["top_logprobs"], strict=True)
    for place, (ids, numbers) in enumerate(rows):
        expected = {
            spelled(token): number
            for token, number in zip(ids.tolist(), numbers.tolist(), strict=True)
        }
        expected[texts[place]] = found.token_logprobs[place]
        assert found.top_logprobs[place] == pytest.approx(expected, abs=1e-5)


def test_a_stream_of_a_chat_has_the_alternatives_of_the_whole(api):
    options = {"logprobs": True, "top_logprobs": TOP, **ASKED}
    whole = chat(api, **options).choices[0]
    found = joined(
        list(chat(api, stream=True, **options)), 0, lambda c: c.delta.content
    )
    assert [e for p in found.logprobs for e in p.content] == whole.logprobs.content


def test_to_list_alternatives_changes_no_text(api):
    plain = complete(api, **ASKED).choices[0]
    listed = complete(api, logprobs=5, **ASKED).choices[0]
    assert (listed.text, listed.finish_reason) == (plain.text, plain.finish_reason)
    assert plain.logprobs is None
    none = complete(api, logprobs=0, **ASKED).choices[0].logprobs
    assert none.top_logprobs is None
    assert none.token_logprobs == listed.logprobs.token_logprobs


# ---- fields for other servers


@pytest.mark.parametrize(
    "field",
    [
        {"user": "somebody"},
        {"metadata": {"a": "b"}},
        {"store": False},
        {"service_tier": "auto"},
        {"best_of": 1},
        {"echo": False},
        {"suffix": None},
        {"suffix": ""},
        {"tools": []},
        {"tool_choice": "none"},
        {"functions": []},
        {"modalities": ["text"]},
        {"logprobs": None, "stop": None, "seed": 11, "logit_bias": None},
        {"logit_bias": {}},
        {"stream_options": None},
        {"max_tokens": None, "max_completion_tokens": 9},
    ],
    ids=lambda field: "-".join(field),
)
def test_a_field_that_asks_for_nothing_changes_nothing(url, field):
    body = {"prompt": "hello w", **ASKED}
    wanted = post(url, body).json()["choices"]
    found = post(url, body | field)
    assert found.json()["choices"] == wanted


def test_as_many_texts_as_the_best_of_are_all_of_them(api):
    found = complete(api, n=2, best_of=2, **ASKED)
    assert found.choices == complete(api, n=2, **ASKED).choices


def test_a_stream_without_padding_is_the_usual_one(api):
    options = {"include_usage": True, "include_obfuscation": False}
    *_, last = complete(api, stream=True, stream_options=options, **ASKED)
    assert last.usage.completion_tokens > 0
