"""Rotary options of a config.json: the base, the part that is rotated, the scaling.

A scaling is read as `transformers` reads it. What is missing or unknown is refused by
its name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxdecode.core.check import short
from jaxdecode.models.families.errors import CheckpointError
from jaxdecode.models.families.json_options import need, number
from jaxdecode.models.fields import as_float
from jaxdecode.models.rope_scaling import SCALINGS, RopeScaling

UNSCALED = ("rope_theta", "partial_rotary_factor", "rope_type", "type")
BLEND = ("low_freq_factor", "high_freq_factor")
ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True)
class Rope:
    """What a config.json says of rotary positions.

    Attributes:
      theta: base of the frequencies.
      scaling: how positions are stretched, or None.
      part: how much of a head is rotated, in (0, 1].
    """

    theta: Any
    scaling: RopeScaling | None
    part: float

    def size(self, head_size: int) -> int | None:
        """Return how many numbers of a head are rotated; None is all."""
        rotated = int(head_size * self.part)
        return None if rotated == head_size else rotated


def rope_group(raw: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of the option that holds the rotary options, and its content.

    Raises:
      CheckpointError: if it is not an object.
    """
    name = "rope_scaling" if raw.get("rope_parameters") is None else "rope_parameters"
    group = raw.get(name)
    if group is None:
        group = {}
    if not isinstance(group, dict):
        raise CheckpointError(f"option `{name}` must be an object, got {short(group)}.")
    return name, group


def read_rope(
    raw: Mapping[str, Any],
    *,
    theta: float = 10000.0,
    part: float = 1.0,
    aliases: Mapping[str, str] | None = None,
) -> Rope:
    """Return what a config.json says of rotary positions.

    Args:
      raw: the parsed file.
      theta: the base where none is named.
      part: the part of a head that is rotated where none is named.
      aliases: other names that the architecture has for kinds of scaling.

    Raises:
      CheckpointError: for a scaling that is not supported or incomplete.
    """
    name, group = rope_group(raw)
    if any(isinstance(value, dict) for value in group.values()):
        raise CheckpointError(
            f"config.json: option `{name}` per layer type is not supported."
        )
    for options in (raw, group):
        given = options.get("partial_rotary_factor")
        part = part if given is None else given
    if not 0.0 < number(name + ".partial_rotary_factor", part) <= 1.0:
        raise CheckpointError(
            f"option `partial_rotary_factor` must be in (0, 1], got {short(part)}."
        )
    theta = group.get("rope_theta", raw.get("rope_theta", theta))
    return Rope(theta, read_scaling(raw, name, group, aliases or {}), part)


def read_scaling(
    raw: Mapping[str, Any],
    name: str,
    group: Mapping[str, Any],
    aliases: Mapping[str, str],
) -> RopeScaling | None:
    """Return the scaling that a group of rotary options describes, or None.

    Args:
      raw: the parsed file.
      name: what the group is called.
      group: its options.
      aliases: other names for kinds of scaling.

    Raises:
      CheckpointError: for a scaling without a type, one that is not supported, or an
        option that is missing or out of range.
    """
    kind = group.get("rope_type", group.get("type"))
    if kind is None:
        extra = [k for k, v in group.items() if k not in UNSCALED and v is not None]
        if extra:
            raise CheckpointError(
                f"config.json: `{name}` must name its `rope_type`: `{short(extra[0])}` "
                "alone does not say which scaling it is of."
            )
        return None
    if kind == "default":
        return None
    kind = aliases.get(kind, kind) if isinstance(kind, str) else kind
    if kind not in SCALINGS:
        raise CheckpointError(
            f"option `{name}` of type {short(kind)} is not supported."
        )
    try:
        return _READERS[kind](raw, _Group(name, group))
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config.json: {error}") from error


class _Group:
    """The options of a scaling, refused by their full name."""

    def __init__(self, name: str, options: Mapping[str, Any]):
        self._name = name
        self._options = options

    def __call__(self, key: str) -> Any:
        if self._options.get(key) is None:
            raise CheckpointError(f"config.json: `{self._name}.{key}` is missing.")
        return self._options[key]

    def number(self, key: str, default: float | None = None) -> float:
        value = self._options.get(key)
        value = default if value is None and default is not None else self(key)
        return number(f"{self._name}.{key}", value)

    def get(self, key: str) -> Any:
        return self._options.get(key)

    def original(self, raw: Mapping[str, Any]) -> Any:
        """Return the positions of the original training."""
        for options in (raw, self._options):
            if options.get(ORIGINAL) is not None:
                return options[ORIGINAL]
        return need(raw, "max_position_embeddings")


def _linear(raw: Mapping[str, Any], group: _Group) -> RopeScaling:
    return RopeScaling("linear", group("factor"))


def _llama3(raw: Mapping[str, Any], group: _Group) -> RopeScaling:
    factor, (low, high) = group("factor"), map(group, BLEND)
    return RopeScaling("llama3", factor, low, high, group(ORIGINAL))


def _dynamic(raw: Mapping[str, Any], group: _Group) -> RopeScaling:
    original = need(raw, "max_position_embeddings")
    return RopeScaling("dynamic", group("factor"), original_max_length=original)


def _yarn(raw: Mapping[str, Any], group: _Group) -> RopeScaling:
    original = group.original(raw)
    factor = group.get("factor")
    if factor is None:
        factor = _stretch(raw, original)
    amplitude = group.get("attention_factor")
    if amplitude is None:
        amplitude = _yarn_amplitude(group, number("factor", factor))
    return RopeScaling(
        "yarn",
        factor,
        original_max_length=original,
        beta_fast=group.get("beta_fast") or 32.0,
        beta_slow=group.get("beta_slow") or 1.0,
        truncate=True if group.get("truncate") is None else group.get("truncate"),
        amplitude=amplitude,
    )


def _yarn_amplitude(group: _Group, factor: float) -> float:
    def scale(weight: float) -> float:
        return 1.0 if factor <= 1.0 else 0.1 * weight * math.log(factor) + 1.0

    if group.get("mscale") and group.get("mscale_all_dim"):
        return scale(group.number("mscale")) / scale(group.number("mscale_all_dim"))
    return scale(1.0)


def _longrope(raw: Mapping[str, Any], group: _Group) -> RopeScaling:
    original = group.original(raw)
    factor = group.get("factor")
    if factor is None:
        factor = _stretch(raw, original)
    amplitude = group.get("attention_factor")
    if amplitude is None:
        grown = math.log(max(number("factor", factor), 1.0))
        base = math.log(max(number(ORIGINAL, original), 2.0))
        amplitude = math.sqrt(1.0 + grown / base)
    return RopeScaling(
        "longrope",
        max(factor, 1.0),
        original_max_length=original,
        amplitude=amplitude,
        short_factors=group("short_factor"),
        long_factors=group("long_factor"),
    )


def _stretch(raw: Mapping[str, Any], original: Any) -> float:
    whole = number("max_position_embeddings", need(raw, "max_position_embeddings"))
    return whole / max(number(ORIGINAL, original), 1.0)


_READERS = {
    "linear": _linear,
    "llama3": _llama3,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
}


def longest(raw: Mapping[str, Any], scaling: RopeScaling | None) -> Any:
    """Return how many positions a model holds, given its scaling.

    The dynamic kind and yarn stretch the original positions by their factor. A longrope
    model has other frequencies for texts that may be longer than the original ones: it
    is loaded for those that are not, and a caller may ask for more.
    """
    named = need(raw, "max_position_embeddings")
    if scaling is None or scaling.kind in ("linear", "llama3"):
        return named
    if scaling.kind == "longrope":
        return min(named, scaling.original_max_length)
    return max(named, int(as_float(scaling.original_max_length) * scaling.factor))
