"""The knobs of a report's playground: the links it knows, their grids, known orders.

A link is one of the playground's if its class is, and what the playground cannot change
(a window, `min_keep`) has its usual value.
"""

from typing import Any

import numpy as np

from jaxdecode.core.shapes import NO_LIMIT
from jaxdecode.transforms import (
    Chain,
    Edit,
    FrequencyPenalty,
    Link,
    MinP,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
)


def _grid(low: float, high: float, step: float) -> list[float]:
    count = round((high - low) / step)
    return [round(low + i * step, 6) for i in range(count + 1)]


_COUNTS = [0, *range(1, 11), 12, 15, *range(20, 101, 10), 128, 150, 200, 250]
# name: (class, field, neutral value, grid, label, help)
KNOBS: dict[str, tuple[type[Link], str, float, list[float], str, str]] = {
    "repetition_penalty": (
        RepetitionPenalty,
        "penalty",
        1.0,
        _grid(0.8, 2.0, 0.05),
        "Repetition penalty",
        "weakens every token already seen, prompt included",
    ),
    "frequency_penalty": (
        FrequencyPenalty,
        "penalty",
        0.0,
        _grid(-2.0, 2.0, 0.1),
        "Frequency penalty",
        "taken from a logit per occurrence in the text",
    ),
    "presence_penalty": (
        PresencePenalty,
        "penalty",
        0.0,
        _grid(-2.0, 2.0, 0.1),
        "Presence penalty",
        "taken from a logit once the token is in the text",
    ),
    "top_k": (
        TopK,
        "k",
        0,
        [float(count) for count in _COUNTS],
        "Top-k",
        "keeps the k best tokens; 0 is off",
    ),
    "top_p": (
        TopP,
        "p",
        1.0,
        _grid(0.0, 1.0, 0.01),
        "Top-p",
        "keeps the best tokens that hold this mass; 1 is off",
    ),
    "min_p": (
        MinP,
        "p",
        0.0,
        [*_grid(0.0, 0.05, 0.005), *_grid(0.06, 0.5, 0.01)],
        "Min-p",
        "keeps tokens this fraction as likely as the best; 0 is off",
    ),
    "typical": (
        Typical,
        "mass",
        1.0,
        _grid(0.05, 1.0, 0.01),
        "Typical",
        "keeps the tokens of usual surprise that hold this mass; 1 is off",
    ),
    "temperature": (
        Temperature,
        "t",
        1.0,
        _grid(0.0, 2.0, 0.05),
        "Temperature",
        "divides the logits; 0 is greedy",
    ),
}

_PENALTIES = ["repetition_penalty", "frequency_penalty", "presence_penalty"]
PRESETS = {
    "jaxdecode": [*_PENALTIES, "top_k", "top_p", "min_p", "typical", "temperature"],
    "Hugging Face": [*_PENALTIES, "temperature", "top_k", "top_p", "min_p", "typical"],
    "vLLM": [*_PENALTIES, "temperature", "min_p", "top_k", "top_p", "typical"],
    "llama.cpp": [*_PENALTIES, "top_k", "typical", "top_p", "min_p", "temperature"],
}


def knob_of(link: Link) -> str | None:
    """Return the knob that a link is, or None."""
    for name, (kind, *_) in KNOBS.items():
        if type(link) is kind:
            usual = {"min_keep": 1, "window": NO_LIMIT}
            usual["count_prompt"] = name == "repetition_penalty"
            given = vars(link)
            plain = all(
                np.all(given[field] == value)
                for field, value in usual.items()
                if field in given
            )
            return name if plain else None
    return None


def is_off(link: Link) -> bool:
    """Whether a link of one row has its neutral value."""
    return bool(np.all(link.is_off()))


def base_of(chain: Chain) -> int:
    """Return how many edits come before the playground's first link."""
    for place, link in enumerate(chain.links):
        if knob_of(link) is not None or not isinstance(link, Edit):
            return place
    return len(chain.links)


def settings_of(chain: Chain) -> tuple[dict[str, float], list[str], list[Link]]:
    """Return the knobs' values, their order, and links the playground leaves out."""
    values = {name: float(neutral) for name, (_, _, neutral, *_) in KNOBS.items()}
    order: list[str] = []
    left_out: list[Link] = []
    for link in chain.links[base_of(chain) :]:
        name = knob_of(link)
        if name is None or name in order:
            left_out += [] if is_off(link) else [link]
            continue
        order.append(name)
        value = float(np.ravel(getattr(link, KNOBS[name][1]))[0])
        # A float32 has no short decimal form; the nearest one gives it back.
        values[name] = float(np.format_float_positional(np.float32(value)))
    return values, _completed(order), left_out


def _completed(order: list[str]) -> list[str]:
    """Return an order with the knobs that it lacks, where a known order has them."""
    for known in PRESETS.values():
        if [name for name in known if name in order] == order:
            return list(known)
    return order + [name for name in PRESETS["jaxdecode"] if name not in order]


def temperatures_of(value: float) -> list[float]:
    """Return the temperatures above 0 at which the tail is measured."""
    return [t for t in values_of("temperature", value) if t > 0]


def values_of(name: str, value: float) -> list[float]:
    """Return the positions of a knob's slider, the value that was given among them."""
    return sorted({*map(float, KNOBS[name][3]), value})


def describe_knobs(values: dict[str, float]) -> list[dict[str, Any]]:
    """Return the knobs as plain data."""
    return [
        {
            "name": name,
            "label": label,
            "help": help_,
            "neutral": float(neutral),
            "values": values_of(name, values[name]),
            "value": values[name],
        }
        for name, (_, _, neutral, _, label, help_) in KNOBS.items()
    ]
