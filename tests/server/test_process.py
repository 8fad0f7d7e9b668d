"""`jaxdecode serve` as a process: options, SIGTERM, and many clients at once."""

import asyncio
import contextlib
import io
import logging
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from jaxdecode.cli.main import main
from jaxdecode.server import Limits, serving
from tests.engine.engine_cases import engine
from tests.server.served import (
    MESSAGES,
    answered,
    client,
    generated,
    health,
    wait_until,
)

CLIENTS = 64
SECONDS = float(os.environ.get("JAXDECODE_SERVER_SECONDS", "10"))
SIZES = ("--slots", "3", "--length", "48")
NEUTRAL = ("--temperature", "1", "--top-k", "0", "--top-p", "1")
# Each step of the model takes its time, so that a signal finds a text half written.
PROGRAM = """
import sys, time
from jaxdecode import engine
from jaxdecode.cli import main, runtime
from tests.engine.engine_cases import language_model

class Slow(engine.Engine):
    def step(self):
        time.sleep(0.2)
        return super().step()

engine.Engine = Slow
runtime.load_model = lambda given: language_model()
sys.exit(main.main())
"""


@contextlib.contextmanager
def process(*argv):
    """Run the command on a tiny model; yields it and its base URL."""
    command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", "--cold", *argv]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        try:
            line = started.stderr.readline()
            assert "listening on http://127.0.0.1:" in line, line
            yield started, line.split()[-1]
        finally:
            started.kill()


@pytest.mark.slow
def test_sigterm_lets_running_requests_end_and_refuses_new_ones():
    with process(*SIZES, *NEUTRAL) as (server, url), ThreadPoolExecutor(2) as pool:
        api = client(url)
        asked = {"model": "m", "prompt": "hello w", "max_tokens": 20, "seed": 7}
        whole = api.completions.create(**asked)
        assert [whole.choices[0].text] == generated(seed=7, max_tokens=20)
        stream = api.completions.create(stream=True, **asked)
        first = next(iter(stream)).choices[0].text
        other = pool.submit(api.completions.create, **asked)
        wait_until(lambda: health(url).json()["texts"] == 2)
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: health(url).status_code == 503)
        with pytest.raises(openai.InternalServerError) as refused:
            api.completions.create(**asked)
        assert refused.value.status_code == 503
        text = first + "".join(chunk.choices[0].text for chunk in stream)
        assert text == whole.choices[0].text
        assert other.result().choices == whole.choices
        assert server.wait(30) == 0
        assert server.stderr.read() == ""


@pytest.mark.slow
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_server_at_once(first):
    long = {"prompt": "a", "max_tokens": 40, "ignore_eos": True}
    with process(*SIZES, "--chunk", "1") as (server, url), ThreadPoolExecutor(1) as p:
        taken = p.submit(httpx.post, url + "/completions", json=long, timeout=60)
        wait_until(lambda: health(url).json()["texts"] == 1)
        server.send_signal(first)
        wait_until(lambda: health(url).status_code == 503)
        begun = time.monotonic()
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
        assert time.monotonic() - begun < 6
        assert taken.exception() or taken.result().status_code == 500


@pytest.mark.slow
def test_64_clients_at_once_get_their_own_texts():
    """Set JAXDECODE_SERVER_SECONDS=60 for the time that the promise names."""
    wanted = dict(cases(24))
    with serving(engine(slots=16), limits=Limits(queue=CLIENTS)) as url:
        counts = asyncio.run(crowd(url, wanted))
        wait_until(lambda: health(url).json()["texts"] == 0)
    assert len(counts) == CLIENTS
    assert min(counts) >= 1
    print(f"{sum(counts)} requests of {CLIENTS} clients in {SECONDS:g} s")


def cases(count):
    """Yield requests, each with its text by `generate`."""
    rng = random.Random(1)
    for index in range(count):
        asked = {
            "seed": rng.randrange(2**32),
            "max_tokens": rng.randint(8, 16),
            "temperature": rng.uniform(0.5, 1.5),
            "top_p": rng.uniform(0.6, 1.0),
        }
        if index % 3:
            (text,) = generated(**asked)
        else:
            text = answered(MESSAGES, **asked)
        yield (index % 3 == 0, tuple(asked.items())), text


async def crowd(url, wanted):
    """Let every client ask until the time is over; return how often each did."""
    ends = time.monotonic() + SECONDS

    async def one(number):
        rng, count = random.Random(number), 0
        options = {"base_url": url, "api_key": "none", "max_retries": 0}
        async with openai.AsyncOpenAI(timeout=120, **options) as api:
            while not count or time.monotonic() < ends:
                is_chat, asked = rng.choice(list(wanted))
                found = await text_of(api, is_chat, dict(asked), rng.random() < 0.5)
                assert found == wanted[is_chat, asked]
                count += 1
        return count

    return await asyncio.gather(*(one(number) for number in range(CLIENTS)))


async def text_of(api, is_chat, asked, stream):
    """Ask one of the ways that there are, and return the text."""
    if is_chat:
        create, about = api.chat.completions.create, {"messages": MESSAGES}
    else:
        create, about = api.completions.create, {"prompt": "hello w"}
    found = await create(model="m", stream=stream, **about, **asked)
    if not stream:
        choice = found.choices[0]
        return choice.message.content if is_chat else choice.text
    choices = [chunk.choices[0] async for chunk in found]
    return "".join((c.delta.content if is_chat else c.text) or "" for c in choices)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--port", "70000"), "--port must be in [0, 65535]"),
        (("--slots", "0"), "--slots must be >= 1"),
        (("--queue", "-1"), "Limits: `queue` must be"),
        (("--top-p", "2"), "TopP: `p` must be in [0, 1]"),
        (("--host", "203.0.113.1"), "203.0.113.1:8000"),
    ],
)
def test_options_are_checked_before_a_model_is_loaded(
    argv, message, capsys, monkeypatch
):
    from jaxdecode.cli import runtime

    monkeypatch.setattr(runtime, "start_jax", lambda: None)
    monkeypatch.setattr(runtime, "load_model", lambda given: pytest.fail("loaded"))
    assert main(["serve", *argv]) == 2
    assert message in capsys.readouterr().err


def test_serving_leaves_the_logging_of_the_program_alone():
    class Handler(logging.StreamHandler):
        is_closed = False

        def close(self):
            self.is_closed = True
            super().close()

    ours = Handler(io.StringIO())
    try:
        with serving(engine()) as url:
            assert url.startswith("http://127.0.0.1:")
        assert not ours.is_closed
    finally:
        ours.close()
