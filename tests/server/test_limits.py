"""What is refused, and how; clients that go away; a server that ends."""

import contextlib
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from jaxdecode.engine import Engine
from jaxdecode.server import Limits, make_app, serving
from jaxdecode.server.running import Server, bind, url_of
from tests.engine.engine_cases import SHAPE, engine, language_model
from tests.engine.hostile import FIELDS, VALUES
from tests.server.served import (
    SLOTS,
    client,
    generated,
    health,
    held,
    wait_until,
)

LONG = {"prompt": "a", "max_tokens": 40, "ignore_eos": True}
TEXT = {"prompt": "hello w", "max_tokens": 9, "seed": 3}
CHAT = {"messages": [{"role": "user", "content": "a"}]}


@pytest.fixture(scope="module")
def url():
    with serving(engine(), limits=Limits(body=10_000, queue=5)) as found:
        yield found


def post(url, body, path="/completions", **options):
    options = {"headers": {"content-type": "application/json"}, **options}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url + path, content=data, timeout=60, **options)


def refused(response, status, code):
    """Whether an answer is an error as OpenAI's interface writes it."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code, error
    return error["message"]


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"", "invalid_json", "not JSON"),
        (b"{", "invalid_json", "not JSON"),
        (b"\xff", "invalid_utf8", "UTF-8"),
        (b"[1]", "not_an_object", "JSON object"),
        (b'{"prompt": "a", "prompt": "b"}', "duplicate_field", "once"),
        (b'{"prompt": "a", "temperature": NaN}', "invalid_json", "NaN"),
        (b"[" * 5000, "invalid_json", "deeply"),
        ({}, "missing_prompt", "`prompt`"),
        (CHAT, "missing_prompt", "`prompt`"),
        (CHAT | {"prompt": "a"}, "missing_prompt", "no `messages`"),
        ({"prompt": "a", "best_of": 2}, "unsupported", "`best_of` must be equal to"),
        ({"prompt": "a", "n": 2, "best_of": 3}, "unsupported", "`best_of`"),
        ({"prompt": "a", "echo": True}, "unsupported", "`echo` must be false"),
        ({"prompt": "a", "echo": 0}, "unsupported", "`echo` must be false"),
        ({"prompt": "a", "suffix": "z"}, "unsupported", '`suffix` must be "":'),
        ({"prompt": "a", "tools": [{}]}, "unsupported", "do not call tools"),
        ({"prompt": "a", "tool_choice": "required"}, "unsupported", "`tool_choice`"),
        ({"prompt": "a", "prediction": {}}, "unsupported", "must be absent"),
        ({"prompt": "a", "foo": 1}, "unknown_field", "'foo'"),
        ({"prompt": "a", "model": 3}, "invalid_type", "`model`"),
        ({"prompt": "a", "stream": "yes"}, "invalid_type", "`stream`"),
        ({"prompt": "a", "stream_options": {}}, "invalid_value", "`stream`"),
        (
            {"prompt": "a", "stream": True, "stream_options": {"x": 1}},
            "invalid_type",
            "include_usage",
        ),
        (
            {
                "prompt": "a",
                "stream": True,
                "stream_options": {"include_obfuscation": True},
            },
            "unsupported",
            "must be false",
        ),
        (
            {"prompt": "a", "logprobs": 6},
            "invalid_value",
            "`logprobs` must be in [0, 5]",
        ),
        ({"prompt": "a", "logprobs": -1}, "invalid_value", "`logprobs`"),
        ({"prompt": "a", "top_logprobs": 1}, "unsupported", "is for a chat"),
        ({"prompt": "a", "top_p": 1.5}, "invalid_value", "`p`"),
        ({"prompt": "a", "temperature": "hot"}, "invalid_type", "`temperature`"),
        ({"prompt": "a", "seed": -1}, "invalid_value", "`seed`"),
        ({"prompt": "a", "n": 9}, "invalid_value", "at most 8"),
        ({"prompt": "a", "max_tokens": 48}, "prompt_too_long", "<= 48"),
        ({"prompt": "A"}, "invalid_value", "'A'"),
        ({"prompt": ["a", 3]}, "invalid_type", "`prompt`"),
        ({"prompt": [3, "a"]}, "invalid_type", "`prompt`"),
        ({"prompt": ["a", ["b"]]}, "invalid_type", "`prompt`"),
        ({"prompt": ["a", []]}, "invalid_value", "`prompt` must not be empty"),
        ({"prompt": ["a", ""], "max_tokens": 1}, "invalid_value", "one token"),
        ({"prompt": ["a", "A"], "max_tokens": 1}, "invalid_value", "'A'"),
        ({"prompt": ["a"] * 9}, "invalid_value", "at most 8 prompts"),
        ({"prompt": ["a", "b"], "n": 5}, "invalid_value", "at most 8 here, got 10"),
        ({"prompt": ["a", "b"], "seed": -1}, "invalid_value", "`seed`"),
        ({"prompt": []}, "invalid_value", "`prompt` must not be empty"),
        ({"prompt": "a", "response_format": 1}, "invalid_type", "dict"),
        (
            {"prompt": "a", "response_format": {"type": "json_object"}},
            "invalid_value",
            "json_schema",
        ),
        (
            {
                "prompt": "a",
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "set"}},
                },
            },
            "invalid_pattern",
            "'set'",
        ),
    ],
)
def test_a_malformed_body_is_refused_with_a_reason(url, body, code, reason):
    assert reason in refused(post(url, body), 400, code)


def test_a_malformed_chat_is_refused_with_a_reason(url):
    path = "/chat/completions"
    refused(post(url, {"prompt": "a"}, path), 400, "missing_prompt")
    for messages in ([], "hello", [3]):
        found = post(url, {"messages": messages}, path)
        assert "`messages` must be" in refused(found, 400, "invalid_type")
    found = post(url, {"messages": [{"content": "a"}]}, path)
    assert "must have a 'role'" in refused(found, 400, "invalid_value")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]
    refused(post(url, {"messages": image}, path), 400, "unsupported")
    found = post(url, CHAT | {"top_logprobs": 3}, path)
    assert "needs `logprobs`" in refused(found, 400, "invalid_value")
    found = post(url, CHAT | {"logprobs": True, "top_logprobs": 21}, path)
    assert "[0, 20]" in refused(found, 400, "invalid_value")
    refused(post(url, CHAT | {"logprobs": 3}, path), 400, "invalid_type")
    refused(post(url, CHAT | {"modalities": ["audio"]}, path), 400, "unsupported")


@pytest.mark.parametrize("count", [30, pytest.param(90, marks=pytest.mark.slow)])
def test_no_value_of_a_field_brings_the_server_down(url, count):
    rng = random.Random(0)
    cases = [(f, v) for f in [*FIELDS, "response_format", "stream"] for v in VALUES]
    with httpx.Client(timeout=60) as http:
        for field, value in rng.sample(cases, count):
            data = json.dumps({"prompt": "a"} | {field: value}).encode()
            headers = {"content-type": "application/json"}
            found = http.post(url + "/completions", content=data, headers=headers)
            assert found.status_code == 400, (field, value, found.text)
            assert found.json()["error"]["message"]
    assert health(url).json()["texts"] == 0


def test_the_client_raises_its_own_error(url):
    with pytest.raises(openai.BadRequestError, match="there is no field 'foo'"):
        client(url).completions.create(model="m", prompt="a", extra_body={"foo": 1})


def test_what_is_too_long_or_of_another_kind_is_refused(url):
    assert post(url, {"prompt": "a", "max_tokens": 1, "user": "x" * 9_900}).is_success
    for size in (10_000, 30_000, 10**6):
        body = {"prompt": "a" * size}
        assert "10000 bytes" in refused(post(url, body), 413, "body_too_long")

    def parts():
        for _ in range(20):
            yield b" " * 1000

    headers = {"content-type": "application/json"}
    found = httpx.post(url + "/completions", content=parts(), headers=headers)
    refused(found, 413, "body_too_long")
    form = {"content-type": "application/x-www-form-urlencoded"}
    refused(post(url, {}, headers=form), 415, "unsupported_media_type")
    refused(post(url, {}, headers={}), 415, "unsupported_media_type")
    other = {"content-type": "application/json", "host": "localhost.example.com:80"}
    refused(post(url, TEXT, headers=other), 403, "forbidden_host")
    assert post(url, TEXT, headers=other | {"host": "LocalHost:8000"}).is_success
    refused(post(url, {}, "/embeddings"), 404, "not_found")
    refused(httpx.get(url + "/completions"), 405, "not_found")
    refused(httpx.get(url + "/models/other"), 404, "model_not_found")


def test_a_queue_that_is_full_answers_so_and_empties():
    with (
        held(limits=Limits(queue=2)) as (still, url),
        ThreadPoolExecutor(SLOTS + 2) as pool,
    ):
        waiting = [pool.submit(post, url, TEXT) for _ in range(SLOTS + 1)]
        wait_until(lambda: len(still.jobs) == SLOTS + 1)
        refused(post(url, TEXT | {"n": 2}), 429, "queue_full")
        waiting.append(pool.submit(post, url, TEXT))
        wait_until(lambda: len(still.jobs) == SLOTS + 2)
        found = post(url, TEXT)
        refused(found, 429, "queue_full")
        assert found.headers["retry-after"]
        assert health(url).json()["texts"] == SLOTS + 2
        still.let(1000)
        texts = [one.result().json()["choices"][0]["text"] for one in waiting]
        assert texts == generated(seed=3, max_tokens=9) * (SLOTS + 2)
        wait_until(lambda: health(url).json()["texts"] == 0)
        assert post(url, TEXT).is_success


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("samples", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_client_that_goes_away_frees_its_slots(stream, samples):
    with held() as (still, url):
        body = LONG | {"stream": stream, "n": samples}
        with contextlib.suppress(httpx.TimeoutException):
            still.let(1)
            with httpx.stream(
                "POST",
                url + "/completions",
                json=body,
                timeout=httpx.Timeout(9, read=1),
            ) as response:
                next(response.iter_lines())
        assert still.cancelled.wait(30)
        assert not still.jobs[0].is_done
        still.let(2)
        wait_until(lambda: health(url).json()["texts"] == 0)
        found = still.jobs[0].peek()
        assert {sample.finish_reason for sample in found.samples} == {"cancelled"}
        assert found.generated_tokens < 20 * samples
        still.let(1000)
        assert (
            post(url, TEXT).json()["choices"][0]["text"]
            == generated(seed=3, max_tokens=9)[0]
        )


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_takes_too_long_is_ended(stream):
    with held(limits=Limits(seconds=0.5)) as (still, url):
        found = post(url, LONG | {"stream": stream})
        if stream:
            *_, last = [line for line in found.text.split("\n") if line]
            assert json.loads(last[6:])["error"]["code"] == "timeout"
        else:
            assert "0.5 seconds" in refused(found, 504, "timeout")
        assert still.cancelled.wait(30)
        still.let(2)
        wait_until(lambda: health(url).json()["texts"] == 0)


def test_a_failure_of_the_engine_is_said_to_everybody(capfd):
    to = engine()

    def fail():
        raise FloatingPointError("on purpose")

    to.step = fail
    with serving(to) as url:
        refused(post(url, TEXT), 500, "engine_failed")
        refused(post(url, TEXT | {"stream": True}), 500, "engine_failed")
        refused(health(url), 500, "engine_failed")
    assert "on purpose" in capfd.readouterr().err


def test_a_server_that_ends_answers_what_it_took_and_refuses_the_rest():
    to = Engine(language_model(), **SHAPE)
    step, go = to.step, threading.Event()
    to.step = lambda: go.wait() and step()
    bound, started = bind(port=0), threading.Event()
    url, server = url_of(bound), Server(make_app(to), started.set)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    assert started.wait(30)
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as at_last:
        at_last.callback(go.set)
        taken = pool.submit(post, url, TEXT)
        wait_until(lambda: to.is_busy)
        server.drain()
        refused(post(url, TEXT), 503, "draining")
        refused(health(url), 503, "draining")
        assert thread.is_alive()
        go.set()
        found = taken.result().json()["choices"][0]["text"]
    assert found == generated(seed=3, max_tokens=9)[0]
    thread.join(30)
    assert not thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        health(url)


def test_an_address_that_is_taken_is_refused():
    with bind(port=0) as one:
        one.listen()
        port = one.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            bind(port=port)
        assert one.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"body": 0}, ValueError),
        ({"body": 2**30}, ValueError),
        ({"queue": -1}, ValueError),
        ({"queue": 1.5}, TypeError),
        ({"seconds": 0}, ValueError),
        ({"seconds": float("inf")}, ValueError),
        ({"seconds": "1"}, TypeError),
    ],
)
def test_limits_are_checked(options, kind):
    with pytest.raises(kind, match=f"Limits: `{next(iter(options))}` must be"):
        Limits(**options)
