"""The chain of llama.cpp, in the order and with the names of its server."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdecode.core import check
from jaxdecode.core.shapes import NO_LIMIT, Biases, PerRow, Scalar
from jaxdecode.transforms.base import Link
from jaxdecode.transforms.chain import Chain
from jaxdecode.transforms.feedback import AdaptiveP, Mirostat
from jaxdecode.transforms.ngrams import DRY
from jaxdecode.transforms.penalties import (
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
)
from jaxdecode.transforms.presets.given import chain_of, given, refuse, where
from jaxdecode.transforms.scale import DynamicTemperature, Temperature
from jaxdecode.transforms.shape import TopNSigma
from jaxdecode.transforms.truncation import MinP, TopK, TopP
from jaxdecode.transforms.typicality import Typical
from jaxdecode.transforms.vocabulary import LogitBias
from jaxdecode.transforms.xtc import XTC

WHO = "presets.llama_cpp"
ORDER = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
)
Steps = dict[str, Link | None]  # what each argument asks for, by its name


def llama_cpp(
    *,
    samplers: Sequence[str] = ORDER,
    logit_bias: Biases | None = None,
    repeat_penalty: PerRow | None = None,
    frequency_penalty: PerRow | None = None,
    presence_penalty: PerRow | None = None,
    repeat_last_n: PerRow = 64,
    dry_multiplier: PerRow | None = None,
    dry_base: PerRow = 1.75,
    dry_allowed_length: PerRow = 2,
    dry_penalty_last_n: PerRow = -1,
    dry_sequence_breakers: Sequence[int] = (),
    top_n_sigma: PerRow | None = None,
    top_k: PerRow | None = None,
    typical_p: PerRow | None = None,
    top_p: PerRow | None = None,
    min_p: PerRow | None = None,
    xtc_probability: PerRow | None = None,
    xtc_threshold: PerRow = 0.1,
    temperature: PerRow | None = None,
    dynatemp_range: PerRow | None = None,
    dynatemp_exponent: PerRow = 1.0,
    mirostat: int = 0,
    mirostat_tau: PerRow = 5.0,
    mirostat_eta: PerRow = 0.1,
    adaptive_target: PerRow | None = None,
    adaptive_decay: PerRow = 0.9,
    min_keep: PerRow = 0,
) -> Chain:
    """Return the chain of llama.cpp, with the names of its server.

    Bias, penalties over the last tokens of prompt and output, DRY, top-n-sigma, top-k
    (exactly k), typical, top-p, min-p, XTC, temperature, and adaptive-p in place of the
    plain draw. What is left out is off: its defaults (`top_k=40`, `top_p=0.95`,
    `min_p=0.05`, `temperature=0.8`) are not assumed. Ties at a cut go to the lower id;
    there, to either.

    Args:
      samplers: the order, names as in the default; what is not named is off. Static.
      logit_bias: {token id: bias}.
      repeat_penalty: > 0.
      frequency_penalty: logits per occurrence.
      presence_penalty: logits for having occurred.
      repeat_last_n: how far these three look back, >= -1; 0 not at all, -1 to the start.
      dry_multiplier: >= 0; 0 is off.
      dry_base: >= 1.
      dry_allowed_length: >= 0.
      dry_penalty_last_n: >= -1, as `repeat_last_n`.
      dry_sequence_breakers: token ids; there, strings, whose tokens it finds.
      top_n_sigma: 0 and below is off.
      top_k: 0 and below is off.
      typical_p: in [0, 1]; 1 is off.
      top_p: in [0, 1]; 1 is off, 0 keeps one.
      min_p: in [0, 1].
      xtc_probability: in [0, 1]; 0 is off.
      xtc_threshold: in [0, 1]; above 0.5 is off.
      temperature: 0 and below is greedy.
      dynatemp_range: >= 0, on both sides of `temperature` (1 if it is left out).
      dynatemp_exponent: > 0.
      mirostat: 0, 1 or 2; with 1 and 2 only bias and temperature act before it. Static.
      mirostat_tau: >= 0.
      mirostat_eta: >= 0.
      adaptive_target: in [-1, 1]; below 0 is off.
      adaptive_decay: in [0, 0.99].
      min_keep: how many typical, top-p, min-p and XTC leave at least.

    Returns:
      The chain; each parameter a number or one per row.

    Raises:
      TypeError: for an unknown argument, or one without meaning beside the others.
      ValueError: for a value out of range, or an unknown sampler.
    """
    span = _window("dry_penalty_last_n", dry_penalty_last_n)
    dry = dry_base, dry_allowed_length, span, dry_sequence_breakers
    steps = {
        **_penalties(
            repeat_penalty, frequency_penalty, presence_penalty, repeat_last_n
        ),
        "dry_multiplier": given(dry_multiplier, lambda m: DRY(m, *dry)),
        "top_n_sigma": given(top_n_sigma, lambda n: TopNSigma(_from_0(n))),
        "top_k": given(top_k, lambda k: TopK(_from_0(k))),
        **_cutoffs(typical_p, top_p, min_p, xtc_probability, xtc_threshold, min_keep),
        "temperature": _temperature(temperature, dynatemp_range, dynatemp_exponent),
        "adaptive_target": given(
            adaptive_target, lambda a: AdaptiveP(a, adaptive_decay)
        ),
    }
    bias = given(logit_bias, LogitBias)
    check.choice(WHO, "mirostat", mirostat, (0, 1, 2))
    if mirostat:
        others = {k: v for k, v in steps.items() if k != "temperature"}
        spread = {"dynatemp_range": dynatemp_range}
        refuse(WHO, {**others, **spread}, f"with mirostat={mirostat}")
        feedback = Mirostat(mirostat_tau, mirostat_eta, version=mirostat)
        return chain_of(bias, steps["temperature"], feedback)
    return chain_of(bias, *_ordered(samplers, steps), steps["adaptive_target"])


def _penalties(
    repeat: Scalar, frequency: Scalar, presence: Scalar, last_n: Scalar
) -> Steps:
    span = _window("repeat_last_n", last_n)
    counted = {"count_prompt": True, "window": span}
    return {
        "repeat_penalty": given(repeat, lambda p: RepetitionPenalty(p, window=span)),
        "frequency_penalty": given(frequency, lambda p: FrequencyPenalty(p, **counted)),
        "presence_penalty": given(presence, lambda p: PresencePenalty(p, **counted)),
    }


def _cutoffs(
    typical: Scalar,
    top_p: Scalar,
    min_p: Scalar,
    probability: Scalar,
    threshold: Scalar,
    min_keep: Scalar,
) -> Steps:
    least = where(_whole("min_keep", min_keep, 0), lambda n: n < 1, 1)
    return {
        "typical_p": given(typical, lambda p: Typical(p, ties="exact", min_keep=least)),
        "top_p": given(top_p, lambda p: TopP(p, min_keep=least)),
        "min_p": given(min_p, lambda p: MinP(p, min_keep=least)),
        "xtc_probability": given(
            probability, lambda p: XTC(threshold, p, min_keep=least)
        ),
    }


_ARGUMENTS = {
    "penalties": ("repeat_penalty", "frequency_penalty", "presence_penalty"),
    "dry": ("dry_multiplier",),
    "typ_p": ("typical_p",),
    "xtc": ("xtc_probability",),
}


def _ordered(samplers: Any, steps: Steps) -> list[Link | None]:
    """Return the links in the order asked for."""
    if isinstance(samplers, str) or not isinstance(samplers, Sequence):
        raise TypeError(
            f"{WHO}: `samplers` must be names such as 'top_k', "
            f"got {check.short(samplers)}."
        )
    for name in samplers:
        check.choice(WHO, "samplers", name, ORDER)
    left_out = {
        argument: steps[argument]
        for name in ORDER
        if name not in samplers
        for argument in _ARGUMENTS.get(name, (name,))
    }
    refuse(WHO, left_out, "where `samplers` does not name its step")
    return [
        steps[argument]
        for name in dict.fromkeys(samplers)
        for argument in _ARGUMENTS.get(name, (name,))
    ]


def _temperature(t: Any, spread: Any, exponent: Any) -> Link | None:
    if spread is None:
        return given(t, lambda t: Temperature(_from_0(t)))
    t = check.real(WHO, "temperature", 1.0 if t is None else t)
    spread = check.real(WHO, "dynatemp_range", spread, low=0.0)
    return DynamicTemperature(_from_0(t - spread), _from_0(t + spread), exponent)


def _from_0(value: Any) -> Any:
    return where(value, lambda value: value < 0, 0)


def _window(name: str, value: Any) -> Any:
    return where(_whole(name, value, -1), lambda n: n < 0, np.int32(NO_LIMIT))


def _whole(name: str, value: Any, low: int) -> Any:
    return check.whole(WHO, name, value, low=low)
