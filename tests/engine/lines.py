"""Files of requests for the tests: good lines, bad ones, and how to run them."""

import json
import random

from jaxdecode.engine.batch import Defaults, run_batch
from tests.engine.engine_cases import engine

DEFAULTS = Defaults(sampling={"temperature": 0.9, "top_k": 12}, max_tokens=6, seed=5)


def good_lines(count, *, seed=0):
    """Return lines of every form, each with values of its own."""
    rng = random.Random(seed)

    def text(longest):
        return "".join(
            rng.choice("abcdefg hij") for _ in range(rng.randint(1, longest))
        )

    found = []
    for index in range(count):
        body = {"temperature": rng.uniform(0.2, 1.6), "seed": rng.randint(0, 999)}
        body["max_tokens"] = rng.randint(1, 9)
        kind = index % 5
        if kind == 0:
            line = {"id": f"line-{index}", "prompt": text(20), **body}
        elif kind == 1:
            messages = [{"role": "user", "content": text(9)}]
            line = {"id": index, "messages": messages, "tokens": True, **body}
        elif kind == 2:
            line = {"id": f"é-{index}", "prompt": text(9), "n": 2, "stop": ["a", "be"]}
            line["logprobs"] = True
        elif kind == 3:
            content = [{"type": "text", "text": text(9)}]
            messages = [{"role": "user", "content": content}]
            asked = {"model": "any", "messages": messages, "logprobs": True, **body}
            line = {"custom_id": f"chat-{index}", "method": "POST", "body": asked}
            line["url"] = "/v1/chat/completions"
        else:
            asked = {"prompt": text(9), "logit_bias": {"5": -1.5}, "logprobs": 1}
            line = {"custom_id": f"text-{index}", "body": asked | {"n": 2}}
        found.append(line)
    return found


def write(path, lines):
    """Write lines: objects, or bytes as they are."""
    data = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines]
    path.write_bytes(b"".join(part + b"\n" for part in data))
    return str(path)


def answered(source, target, *, to=None, **options):
    """Run a batch and return the bytes of its output."""
    options = {"defaults": DEFAULTS, **options}
    run_batch(engine() if to is None else to, str(source), str(target), **options)
    return target.read_bytes()


def objects(data):
    return [json.loads(line) for line in data.splitlines()]
