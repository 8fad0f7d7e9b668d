"""Requests of all kinds for tiny models, and what each becomes alone."""

import dataclasses
import functools
from typing import Any

import numpy as np

import jaxdecode as jd
from jaxdecode.engine import Engine
from jaxdecode.text import LanguageModel
from tests import tiny
from tests.text.tiny_texts import END, TEMPLATE, small_vocabulary

SHAPE = {"slots": 3, "length": 48, "chunk": 4, "block": 16, "prefill": 16}
NEW_TOKENS = 16
WORDS = "abcdefghijklmnopqrstuvwxyz "
REASONS = {1: "stop", 2: "length", 3: "stop", 4: "invalid"}


@functools.cache
def language_model(kind="bag"):
    """A tiny model with a vocabulary of letters."""
    model = tiny.bag() if kind == "bag" else tiny.llama()
    return LanguageModel(
        model,
        tokenizer=small_vocabulary(),
        eos_ids=(END,),
        chat_template=TEMPLATE,
        name="tiny",
    )


def engine(kind="bag", **changes):
    return Engine(language_model(kind), **{**SHAPE, **changes})


@dataclasses.dataclass(frozen=True)
class Ask:
    """A request: a prompt of letters, a seed and options."""

    id: Any
    prompt: str
    key: int
    options: dict[str, Any]

    def submit(self, to):
        return to.submit(self.prompt, key=self.key, id=self.id, **self.options)


def links(*, temperature=1.0, top_k=0, frequency_penalty=0.0):
    """A sampler of one structure: half as large a program as that of `joint`."""
    return jd.chain(
        *(jd.FrequencyPenalty(frequency_penalty), jd.Temperature(temperature)),
        jd.TopK(top_k),
    )


def asks(count, *, seed=0, samples=3, prefix=""):
    """Requests whose every value is another one."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        letters = rng.choice(list(WORDS), rng.integers(1, 28 - len(prefix)))
        options = {
            "sampler": links(
                temperature=float(rng.uniform(0.3, 1.7)),
                top_k=int(rng.integers(0, 20)),
                frequency_penalty=float(rng.uniform(-0.5, 0.5)),
            ),
            "max_new_tokens": int(rng.integers(1, NEW_TOKENS + 1)),
            "num_samples": int(rng.integers(1, samples + 1)),
            "eos_ids": [int(i) for i in rng.choice(37, rng.integers(0, 4))],
            "stop": [rng.integers(2, 28, rng.integers(1, 3)).tolist()],
        }
        if index % 3 == 0:
            options["stop_strings"] = ["".join(rng.choice(list(WORDS), 2)), "e"]
        found.append(Ask(index, prefix + "".join(letters), index + 7, options))
    return found


def run(asked, **changes):
    """Return the results by id."""
    to = engine(**changes)
    for ask in asked:
        ask.submit(to)
    return {result.id: result for result in to.results()}


def alone(ask, kind="bag"):
    """Return the tokens of each sample of a request through `generate`, and its reason.

    All requests are given the shapes of one program; that changes no token.
    """
    lm = language_model(kind)
    options = dict(ask.options)
    strings = options.pop("stop_strings", None) or ["never"]
    sequences = [*(options.pop("stop", None) or []), [2] * 9]
    samples = options.pop("num_samples", 1)
    prompt = np.zeros((1, 32), np.int32)
    tokens = lm.encode(ask.prompt)
    prompt[0, : len(tokens)] = tokens
    out = jd.generate(
        lm.model,
        (prompt, np.asarray([len(tokens)])),
        [ask.key],
        stop=jd.Stops.of(sequences, strings, lm.tokenizer.stop_bytes),
        num_samples=3 if samples <= 3 else samples,
        new_tokens_max=NEW_TOKENS,
        **{"eos_ids": lm.eos_ids} | options,
    )
    rows = []
    for row, length in enumerate(np.asarray(out.lengths)[:samples]):
        kept = out.tokens[row, :length].tolist()
        rows.append((tuple(kept), REASONS[int(out.status[row])]))
    return rows


def written(results):
    """Return what must not depend on anything but the request itself."""
    return {
        name: [
            (s.text, s.tokens, s.model_logprobs, s.sampling_logprobs, s.finish_reason)
            for s in result.samples
        ]
        for name, result in results.items()
    }


def texts(results):
    return {
        name: [(s.text, s.tokens, s.finish_reason) for s in result.samples]
        for name, result in results.items()
    }
