"""What do bfloat16 and int8 cost in quality, against float32 on real text?

The text is the language reference that ships with Python (`pydoc_data.topics`): English
prose that is on every machine. Per position: the divergence KL(float32 || other), how
often the best token is the same, and the perplexity of the text.

    python benchmarks/quality.py --windows 24
"""

import argparse
import pydoc_data.topics

import jax
import jax.numpy as jnp
import measure
import numpy as np

import jaxdecode as jd

KINDS = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantize": "int8"},
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--length", type=int, default=256)
    options = parser.parse_args()
    exact = jd.load(options.model, **KINDS["float32"])
    tokens = _windows(exact, options.windows, options.length)
    base = [_logprobs(exact.model, window) for window in tokens]
    rows = [_compare("float32", base, base, tokens)]
    for name in ("bfloat16", "int8"):
        model = jd.load(options.model, **KINDS[name]).model
        other = [_logprobs(model, window) for window in tokens]
        rows.append(_compare(name, base, other, tokens))
    measure.report("quality", rows, windows=options.windows, length=options.length)


def _windows(lm, count: int, length: int) -> list[np.ndarray]:
    topics = pydoc_data.topics.topics
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ids = lm.encode(text)
    starts = np.linspace(0, len(ids) - length - 1, count).astype(int)
    return [np.asarray(ids[s : s + length], np.int32) for s in starts]


@jax.jit
def _forward(model, tokens):
    positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    cache = model.init_cache(1, tokens.shape[1])
    return jax.nn.log_softmax(model(tokens, positions, cache)[0][0])


def _logprobs(model, window: np.ndarray) -> np.ndarray:
    return np.asarray(_forward(model, window[None]))


def _compare(name, base, other, tokens) -> dict:
    divergence, agree, nats = [], [], []
    for p, q, window in zip(base, other, tokens, strict=True):
        divergence.append((np.exp(p) * (p - q)).sum(-1))
        agree.append(p.argmax(-1) == q.argmax(-1))
        nats.append(-q[np.arange(len(window) - 1), window[1:]])
    return {
        "precision": name,
        "mean KL, nats": float(np.mean(divergence)),
        "same best token, %": 100 * float(np.mean(agree)),
        "perplexity": float(np.exp(np.mean(nats))),
        "positions": int(np.size(agree)),
    }


if __name__ == "__main__":
    main()
