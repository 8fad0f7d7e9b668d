"""The engine writes the real model's texts bit for bit as `generate` does alone."""

import json

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.engine import Engine
from jaxdecode.engine.batch import Defaults, run_batch
from jaxdecode.native import is_available

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not is_available(), reason="needs the kernels"),
]


def test_texts_and_logprobs_are_those_of_each_request_alone():
    lm, rng = jd.load("smollm2-135m", dtype="bfloat16"), np.random.default_rng(0)
    beginning = rng.integers(5, 40000, 64).tolist()
    asked = []
    for index in range(7):
        prompt = rng.integers(5, 40000, int(rng.integers(1, 30))).tolist()
        prompt = beginning + prompt if index % 2 else prompt
        sampler = jd.joint(temperature=float(rng.uniform(0.5, 1.5)), top_k=40)
        asked.append((prompt, sampler, int(rng.integers(3, 17))))
    to = Engine(lm, slots=3, length=128)
    for index, (prompt, sampler, budget) in enumerate(asked):
        to.submit(prompt, key=index, sampler=sampler, max_new_tokens=budget)
    found = {result.id: result.samples[0] for result in to.results()}
    assert to.statistics.reused_tokens == 128
    for index, (prompt, sampler, budget) in enumerate(asked):
        given = {"sampler": sampler, "max_new_tokens": budget, "new_tokens_max": 16}
        given["eos_ids"] = lm.eos_ids
        padded = np.zeros((1, 128), np.int32)
        padded[0, : len(prompt)] = prompt
        out = jd.generate(
            lm.model, (padded, np.asarray([len(prompt)])), [index], **given
        )
        length, sample = int(out.lengths[0]), found[index]
        assert list(sample.tokens) == out.tokens[0, :length].tolist()
        for name in ("model_logprobs", "sampling_logprobs"):
            wanted = getattr(out, name)[0, :length]
            assert np.array_equal(np.float32(getattr(sample, name)), wanted)


def test_files_are_equal_with_other_slots_chunks_and_order(tmp_path):
    lm = jd.load("smollm2-135m", dtype="bfloat16")
    lines = [
        {
            "id": i,
            "prompt": "The sea " * (1 + i % 4),
            "max_tokens": 3 + i,
            "stop": "the",
        }
        for i in range(6)
    ]
    found = []
    for slots, chunk, order in ((2, 3, 1), (4, 8, -1)):
        source, target = tmp_path / f"in{slots}", tmp_path / f"out{slots}"
        source.write_text("".join(json.dumps(x) + "\n" for x in lines[::order]))
        to = Engine(lm, slots=slots, length=64, chunk=chunk)
        defaults = Defaults(sampling={"temperature": 0.9})
        run_batch(to, str(source), str(target), defaults=defaults)
        found.append(target.read_bytes().splitlines()[::order])
    assert found[0] == found[1]
