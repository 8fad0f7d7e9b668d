"""What do bfloat16 and int8 cost in quality, against float32 on real text?

The texts are English prose that is on every machine: the language reference that ships
with Python (`pydoc_data.topics`), and docstrings of its library. How int8 rounds was
chosen on 24 windows of the reference ("seen"); the other texts had no say. Per position:
the divergence KL(float32 || other), how often the best token is the same, with the
standard error of its mean over windows, and the perplexity of the text.

    python benchmarks/quality.py --windows 24
"""

import argparse
import importlib
import inspect
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
DOCUMENTED = (
    "argparse asyncio.tasks calendar collections configparser contextlib csv datetime "
    "decimal difflib doctest email.message fractions heapq inspect ipaddress logging "
    "mailbox optparse pathlib pickletools random smtplib statistics string subprocess "
    "tarfile textwrap threading typing unittest.case urllib.request uuid zipfile"
)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--length", type=int, default=256)
    measure.plot_option(parser)
    options = parser.parse_args()
    exact = jd.load(options.model, **KINDS["float32"])
    texts = _texts(exact, options.windows, options.length)
    models = {
        name: jd.load(options.model, **kind).model for name, kind in KINDS.items()
    }
    rows = []
    for text, windows in texts.items():
        base = [_logprobs(exact.model, window) for window in windows]
        for name, model in models.items():
            other = [_logprobs(model, window) for window in windows]
            rows.append({"text": text} | _compare(name, base, other, windows))
    measure.report(
        "quality",
        rows,
        plot=options.plot,
        windows=options.windows,
        length=options.length,
    )


def _texts(lm, count: int, length: int) -> dict[str, list[np.ndarray]]:
    """Return windows of each text; the second kind lies between those of the first."""
    topics = pydoc_data.topics.topics
    reference = lm.encode("\n\n".join(topics[name] for name in sorted(topics)))
    docs = lm.encode("\n\n".join(_docstrings()))
    seen = np.linspace(0, len(reference) - length - 1, count).astype(int)
    between = (seen[:-1] + seen[1:]) // 2
    assert (between - seen[:-1]).min() >= length, "fewer or shorter windows"
    spread = np.linspace(0, len(docs) - length - 1, count).astype(int)
    return {
        "reference, seen": _windows(reference, seen, length),
        "reference, between": _windows(reference, between, length),
        "docstrings": _windows(docs, spread, length),
    }


def _docstrings() -> list[str]:
    """Return the longer docstrings of modules and what they define, in order."""
    found = []
    for name in DOCUMENTED.split():
        module = importlib.import_module(name)
        own = [v for _, v in sorted(vars(module).items()) if _is_of(module, v)]
        members = [f for c in own if inspect.isclass(c) for f in vars(c).values()]
        found += [inspect.getdoc(x) for x in (module, *own, *filter(callable, members))]
    return [text for text in dict.fromkeys(found) if text and len(text) > 200]


def _is_of(module, value) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__


def _windows(ids: list[int], starts: np.ndarray, length: int) -> list[np.ndarray]:
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
        agree.append(100 * np.mean(p.argmax(-1) == q.argmax(-1)))
        nats.append(-q[np.arange(len(window) - 1), window[1:]])
    return {
        "precision": name,
        "mean KL, nats": float(np.mean(divergence)),
        "same best token, %": float(np.mean(agree)),
        "+-": float(np.std(agree) / np.sqrt(len(agree))),
        "perplexity": float(np.exp(np.mean(nats))),
        "positions": int(np.size(divergence)),
    }


if __name__ == "__main__":
    main()
