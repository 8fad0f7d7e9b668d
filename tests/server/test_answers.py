"""What the real client of OpenAI's interface gets is what `generate` writes."""

import json
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.server import serving
from jaxdecode.transforms.patterns import store
from tests.engine.engine_cases import engine, language_model
from tests.server.served import (
    MESSAGES,
    NULL,
    SAMPLING,
    SLOTS,
    answered,
    client,
    generated,
    health,
)

ASKED = {"seed": 11, "max_tokens": 9, **SAMPLING}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("patterns")
    patch.setattr(store, "cache_folder", lambda: folder)
    with serving(engine()) as found:
        yield found
    patch.undo()


@pytest.fixture(scope="module")
def api(url):
    return client(url)


def complete(api, **options):
    return api.completions.create(model="tiny", prompt="hello w", **options)


def chat(api, **options):
    return api.chat.completions.create(model="tiny", messages=MESSAGES, **options)


@pytest.mark.parametrize("seed", [0, 11, 2**32 - 1])
def test_a_completion_is_the_text_of_generate(api, seed):
    found = complete(api, **ASKED | {"seed": seed})
    assert [found.choices[0].text] == generated(**ASKED | {"seed": seed})
    assert found.usage.prompt_tokens == 7
    assert found.usage.total_tokens == 7 + found.usage.completion_tokens
    assert found.model == "tiny"


def test_a_chat_is_the_answer_of_chat(api):
    found = chat(api, **ASKED)
    assert found.choices[0].message.content == answered(MESSAGES, **ASKED)
    assert found.choices[0].message.role == "assistant"
    longest = {k: v for k, v in ASKED.items() if k != "max_tokens"}
    again = chat(api, max_completion_tokens=9, **longest)
    assert again.choices == found.choices


def test_the_choices_are_the_samples_of_generate(api):
    texts = [choice.text for choice in complete(api, n=3, **ASKED).choices]
    assert texts == generated(n=3, **ASKED)
    assert len(set(texts)) > 1


def test_a_text_ends_before_a_stop(api):
    (whole,) = generated(**ASKED)
    stop = whole[3:5]
    found = complete(api, stop=stop, **ASKED)
    assert found.choices[0].text == whole[: whole.index(stop)]
    assert found.choices[0].finish_reason == "stop"
    assert complete(api, stop=["never", stop], **ASKED).choices == found.choices


def test_why_a_text_ended_is_said(api):
    options = {"extra_body": {"ignore_eos": True}, "max_tokens": 5}
    found = complete(api, **options)
    assert found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == 5


def test_without_a_seed_the_answer_names_the_one_that_was_taken(api):
    found = [complete(api, max_tokens=9) for _ in range(2)]
    assert found[0].seed != found[1].seed
    again = complete(api, max_tokens=9, seed=found[0].seed)
    assert again.choices == found[0].choices


def log_probs():
    """Return the tokens of the first texts, and their log-probs, by `generate`."""
    lm, sampling = language_model(), jd.joint(**SAMPLING)
    out = jd.generate(
        lm.model,
        [lm.encode("hello w")],
        [11],
        sampler=sampling,
        max_new_tokens=9,
        eos_ids=lm.eos_ids,
        num_samples=3,
    )
    tokens = np.asarray(out.tokens)[0, : int(out.lengths[0])]
    texts = [lm.decode([token], skip_special=False) for token in tokens.tolist()]
    return texts, np.asarray(out.model_logprobs)[0, : len(texts)]


def test_log_probs_are_those_of_the_model(api):
    texts, numbers = log_probs()
    found = complete(api, logprobs=1, **ASKED).choices[0].logprobs
    assert found.tokens == texts
    np.testing.assert_allclose(found.token_logprobs, numbers, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2])
def test_a_stream_of_a_completion_is_the_whole_in_pieces(api, samples):
    whole = complete(api, n=samples, logprobs=1, **ASKED)
    options = {"stream_options": {"include_usage": True}, **ASKED}
    *chunks, last = complete(api, n=samples, logprobs=1, stream=True, **options)
    for choice in whole.choices:
        found = joined(chunks, choice.index, lambda choice: choice.text)
        assert found.text == choice.text
        assert found.reason == choice.finish_reason
        pieces = [p.tokens for p in found.logprobs]
        assert [t for p in pieces for t in p] == choice.logprobs.tokens
    assert last.usage == whole.usage
    assert last.choices == []
    assert {chunk.id for chunk in chunks} == {last.id}
    assert {chunk.object for chunk in chunks} == {"text_completion"}


@pytest.mark.parametrize("samples", [1, 2])
def test_a_stream_of_a_chat_is_the_whole_in_pieces(api, samples):
    whole = chat(api, n=samples, logprobs=True, **ASKED)
    chunks = list(chat(api, n=samples, logprobs=True, stream=True, **ASKED))
    roles = [chunk.choices[0].delta.role for chunk in chunks]
    assert roles[:samples] == ["assistant"] * samples
    assert set(roles[samples:]) == {None}
    for choice in whole.choices:
        found = joined(chunks, choice.index, lambda choice: choice.delta.content)
        assert found.text == choice.message.content
        assert found.reason == choice.finish_reason
        entries = [entry for p in found.logprobs for entry in p.content]
        assert entries == choice.logprobs.content
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


def joined(chunks, index, text_of):
    """Return what the chunks say of one choice."""
    mine = [c for chunk in chunks for c in chunk.choices if c.index == index]
    reasons = [c.finish_reason for c in mine]
    assert set(reasons[:-1]) <= {None}
    text = "".join(text_of(c) or "" for c in mine)
    logprobs = [c.logprobs for c in mine if c.logprobs is not None]
    return SimpleNamespace(text=text, reason=reasons[-1], logprobs=logprobs)


def test_a_stream_comes_while_it_is_written(url):
    body = {"prompt": "a", "max_tokens": 12, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", url + "/completions", json=body, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert len(lines) >= 5  # chunks of 4 tokens, the reason, the end
    assert all(json.loads(line[6:])["choices"] for line in lines[:-1])


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_format_is_kept(api, stream):
    wanted = {"type": "json_schema", "json_schema": NULL}
    options = {"response_format": wanted, "max_tokens": 6, "seed": 5}
    found = chat(api, stream=stream, **options)
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in found)
    else:
        text = found.choices[0].message.content
    assert text == "null"  # the vocabulary has neither quotes nor digits
    schema = {"schema": NULL["schema"], "max_new_tokens": 6}
    assert text == language_model().chat(
        MESSAGES, key=[5], sampler=jd.joint(), **schema
    )


def test_free_text_is_a_response_format_too(api):
    found = chat(api, response_format={"type": "text"}, **ASKED)
    assert found.choices[0].message.content == answered(MESSAGES, **ASKED)


def test_a_bias_forces_and_bans_tokens(api):
    letter = language_model().encode("q")[0]
    found = complete(api, max_tokens=4, logit_bias={str(letter): 100})
    assert found.choices[0].text == "qqqq"
    greedy = complete(api, max_tokens=1, temperature=0).choices[0].text
    other = complete(
        api,
        max_tokens=1,
        temperature=0,
        logit_bias={str(language_model().encode(greedy)[0]): -100},
    )
    assert other.choices[0].text != greedy


def test_token_ids_are_a_prompt(api):
    ids = language_model().encode("hello w")
    found = api.completions.create(model="tiny", prompt=ids, **ASKED)
    assert [found.choices[0].text] == generated(**ASKED)


def test_requests_of_other_structures_do_not_mix(api):
    """A bias makes a pool of its own; both run in turns."""
    plain = complete(api, **ASKED).choices
    complete(api, logit_bias={"5": -1.0}, **ASKED)
    assert complete(api, **ASKED).choices == plain


def test_the_one_model_is_listed(api, url):
    assert [model.id for model in api.models.list()] == ["tiny"]
    assert api.models.retrieve("tiny").owned_by == "jaxdecode"
    found = health(url)
    assert found.status_code == 200
    wanted = {"status": "ok", "model": "tiny", "texts": 0, "slots": SLOTS}
    assert found.json() == wanted


def test_a_model_without_a_tokenizer_is_refused():
    from tests import tiny

    bare = jd.Engine(tiny.bag(), slots=1)
    with pytest.raises(ValueError, match="must come with a tokenizer"), serving(bare):
        pass
