"""A served tiny model for the tests, its clients, and an engine that is held still."""

import contextlib
import threading
import time

import httpx
import openai

import jaxdecode as jd
from jaxdecode.server import serving
from tests.engine.engine_cases import engine, language_model

SLOTS = 3
MESSAGES = [{"role": "user", "content": "hello w"}]
NULL = {"name": "a", "schema": {"type": ["null", "integer"]}}
SAMPLING = {
    "temperature": 1.1,
    "top_p": 0.9,
    "frequency_penalty": 0.3,
    "presence_penalty": -0.2,
}


def client(url):
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)


def generated(prompt="hello w", *, seed, max_tokens, n=1, stop=None, **sampling):
    """What the texts of a completion must be: the first of three, so of one program."""
    texts = language_model().generate(
        [prompt],
        key=[seed],
        sampler=jd.joint(**sampling),
        max_new_tokens=max_tokens,
        num_samples=3,
        stop_strings=stop,
    )
    return texts[0][:n]


def answered(messages, *, seed, max_tokens, **sampling):
    """What the answer in a chat must be."""
    sampler = jd.joint(**sampling)
    options = {"sampler": sampler, "max_new_tokens": max_tokens}
    return language_model().chat(messages, key=[seed], **options)


class Held:
    """An engine that makes a step only when it is let, and notes who was cancelled."""

    def __init__(self, **changes):
        self.engine, self.cancelled = engine(**changes), threading.Event()
        self.jobs = []
        self._steps = threading.Semaphore(0)
        self._step, self._submit = self.engine.step, self.engine.submit
        self.engine.step, self.engine.submit = self.step, self.submit

    def step(self):
        self._steps.acquire()
        return self._step()

    def submit(self, *args, **options):
        job = self._submit(*args, **options)
        cancel = job.cancel

        def noted():
            cancel()
            self.cancelled.set()

        job.cancel = noted
        self.jobs.append(job)
        return job

    def let(self, steps):
        for _ in range(steps):
            self._steps.release()


@contextlib.contextmanager
def held(*, limits=None, **changes):
    """Serve an engine that is held still; it is let go at the end."""
    still = Held(**changes)
    with serving(still.engine, limits=limits) as url:
        try:
            yield still, url
        finally:
            still.let(10_000)


def wait_until(is_so, seconds=30):
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, "it never came to be"
        time.sleep(0.01)


def health(url):
    return httpx.get(url.removesuffix("/v1") + "/health")
