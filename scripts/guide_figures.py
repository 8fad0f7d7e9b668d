"""Draw the figures of jaxdecode/GUIDE.md that need single steps of a text.

The sweeps of the guide draw themselves (`jaxdecode sweep ... --plot`); here are what
top-k, top-p and min-p leave at each step of one text, and what the place of the
temperature changes.

    python scripts/guide_figures.py jaxdecode/guide
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import jaxdecode as jd
from jaxdecode.measure.plot import figure_of, save_figure

PROMPT = "Once upon a time"
ORDERS = {
    "top-p first (jaxdecode, llama.cpp)": lambda t: jd.chain(
        jd.TopP(0.9), jd.Temperature(t)
    ),
    "temperature first (Hugging Face, vLLM)": lambda t: jd.chain(
        jd.Temperature(t), jd.TopP(0.9)
    ),
}
TEMPERATURES = [0.5, 0.75, 1.0, 1.25, 1.5, 2.0]


def rows_of(lm, text):
    """Return the model's logits before each token of a text, [T, V]."""
    tokens = np.asarray([text], np.int32)
    positions = np.arange(len(text), dtype=np.int32)[None]

    @jax.jit
    def read(model):
        return model(tokens, positions, model.init_cache(1, len(text)))[0][0]

    return np.asarray(read(lm.model))


def kept(link, rows):
    """Return how many tokens a link leaves in each row, and what they held before."""
    after = np.asarray(jd.apply(link, rows))
    probs = np.asarray(jax.nn.softmax(rows))
    stays = after > -np.inf
    return stays.sum(axis=1), np.where(stays, probs, 0).sum(axis=1)


def draw_truncations(rows, path):
    """Draw tokens kept, and mass kept, over the entropy of each step."""
    logp = np.asarray(jax.nn.log_softmax(rows), np.float64)
    entropy = -np.sum(np.exp(logp) * logp, axis=1)
    figure = figure_of((8.2, 3.6))
    left, right = figure.subplots(1, 2)
    links = {
        "top-k 50": jd.TopK(50),
        "top-p 0.9": jd.TopP(0.9),
        "min-p 0.1": jd.MinP(0.1),
    }
    for style, (name, link) in zip(("o", "s", "^"), links.items(), strict=True):
        count, mass = kept(link, rows)
        left.plot(entropy, count, style, markersize=3, label=name, alpha=0.7)
        right.plot(entropy, mass, style, markersize=3, label=name, alpha=0.7)
    left.set_yscale("log")
    left.set_ylabel("tokens kept")
    right.set_ylabel("mass kept")
    for axis in (left, right):
        axis.set_xlabel("entropy of the step (nats)")
        axis.grid(visible=True, alpha=0.3)
    left.legend()
    save_figure(figure, path)


def draw_orders(rows, path):
    """Draw how many tokens are left, by the order of temperature and top-p."""
    figure = figure_of((5.2, 3.6))
    axis = figure.subplots()
    for style, (name, build) in zip(("o-", "s--"), ORDERS.items(), strict=True):
        counts = [np.mean(kept(build(t), rows)[0]) for t in TEMPERATURES]
        axis.plot(TEMPERATURES, counts, style, label=name)
    axis.set_yscale("log")
    axis.set_xlabel("temperature, with top-p 0.9")
    axis.set_ylabel("tokens left, mean over the steps")
    axis.grid(visible=True, alpha=0.3)
    axis.legend()
    save_figure(figure, path)


def main():
    """Write truncations.svg and order.svg into a folder, and print their numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    options = parser.parse_args()
    lm = jd.load(options.model)
    text = lm.inspect(
        PROMPT, key=0, sampler=jd.joint(temperature=0.8), max_new_tokens=200, eos_ids=()
    )
    rows = rows_of(lm, [*text.prompt, *text.tokens])[len(text.prompt) - 1 : -1]
    draw_truncations(rows, options.folder / "truncations.svg")
    draw_orders(rows, options.folder / "order.svg")
    logp = np.asarray(jax.nn.log_softmax(rows), np.float64)
    entropy = -np.sum(np.exp(logp) * logp, axis=1)
    sharp, flat = entropy < 1, entropy > 4
    print(f"steps: {sharp.sum()} with entropy below 1, {flat.sum()} above 4")
    for name, link in (("top-k 50", jd.TopK(50)), ("top-p 0.9", jd.TopP(0.9)),
                       ("min-p 0.1", jd.MinP(0.1))):  # fmt: skip
        count, mass = kept(link, rows)
        print(
            f"{name}: sharp steps keep {count[sharp].mean():.1f} tokens "
            f"({mass[sharp].mean():.1%}), flat ones {count[flat].mean():.1f} "
            f"({mass[flat].mean():.1%})"
        )
    for name, build in ORDERS.items():
        counts = [np.mean(kept(build(t), rows)[0]) for t in TEMPERATURES]
        print(
            name, [f"{t:g}: {c:.1f}" for t, c in zip(TEMPERATURES, counts, strict=True)]
        )


if __name__ == "__main__":
    main()
