"""How rotary positions are stretched for texts longer than those first trained on.

Only the numbers, checked; `rope.py` makes angles of them.
"""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

from jaxdecode.core import check
from jaxdecode.models.fields import as_float, positive, sizes

SCALINGS = ("linear", "llama3", "yarn", "dynamic", "longrope")


@dataclass(frozen=True)
class RopeScaling:
    """Stretch rotary positions, for texts longer than those of the first training.

    Args:
      kind: "linear" divides every frequency by `factor`; "llama3" divides those whose
        wavelength is beyond `original_max_length / low_freq_factor`, keeps those below
        `original_max_length / high_freq_factor` and blends in between; "yarn" does so
        with a blend that is linear in the number of the frequency; "dynamic" raises the
        base for positions beyond `original_max_length`; "longrope" divides each
        frequency by a number of its own.
      factor: the stretch, >= 1.
      low_freq_factor: llama3 only, > 0.
      high_freq_factor: llama3 only, > `low_freq_factor`.
      original_max_length: all but linear, positions of the original training.
      beta_fast: yarn only: planes that turn more often in the original training are
        kept, > 0.
      beta_slow: yarn only: planes that turn less often are divided by `factor`, > 0.
      truncate: yarn only: whether the blend begins and ends at whole planes.
      amplitude: yarn and longrope: what the rotated numbers are multiplied by, > 0.
      short_factors: longrope only: the divisors where no text is longer than
        `original_max_length`, one per plane.
      long_factors: longrope only: the divisors where texts may be longer.
      is_long: longrope only: which divisors hold. A `ModelConfig` decides it by its
        `max_length`.

    Raises:
      ValueError: for a kind that is not implemented or a factor out of range.

    References: Meta AI, The Llama 3 Herd of Models, 2024, arXiv 2407.21783; Peng et al.,
    YaRN, 2023, arXiv 2309.00071 (also describes the dynamic kind); Ding et al.,
    LongRoPE, 2024, arXiv 2402.13753.
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_length: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    amplitude: float = 1.0
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    is_long: bool = False

    def __post_init__(self):
        check.choice("RopeScaling", "kind", self.kind, SCALINGS)
        positive(self, "factor", "low_freq_factor", "high_freq_factor")
        positive(self, "beta_fast", "beta_slow", "amplitude")
        sizes(self, "original_max_length")
        if self.factor < 1.0:
            raise ValueError(f"RopeScaling: `factor` must be >= 1, got {self.factor}.")
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                "RopeScaling: `high_freq_factor` must be > `low_freq_factor` "
                f"({self.low_freq_factor}), got {self.high_freq_factor}."
            )
        for name in ("truncate", "is_long"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"RopeScaling: `{name}` must be True or False.")
        self._divisors("short_factors")
        self._divisors("long_factors")
        if len(self.short_factors) != len(self.long_factors):
            raise ValueError(
                "RopeScaling: `long_factors` must be as many as `short_factors` "
                f"({len(self.short_factors)}), got {len(self.long_factors)}."
            )

    @property
    def divisors(self) -> tuple[float, ...]:
        """What each frequency is divided by, for longrope."""
        return self.long_factors if self.is_long else self.short_factors

    def within(self, max_length: int) -> "RopeScaling":
        """Return the scaling of a model whose texts have at most `max_length` tokens."""
        if self.kind != "longrope":
            return self
        return dataclasses.replace(self, is_long=max_length > self.original_max_length)

    def _divisors(self, name: str) -> None:
        values = getattr(self, name)
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise TypeError(
                f"RopeScaling: `{name}` must be a list of numbers, "
                f"got {check.short(values)}."
            )
        for value in values:
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(
                    f"RopeScaling: `{name}` must be numbers, got {check.short(value)}."
                )
            if not 0.0 < as_float(value) < math.inf:
                raise ValueError(
                    f"RopeScaling: `{name}` must be finite and > 0, "
                    f"got {check.short(value)}."
                )
        if self.kind == "longrope" and not values:
            raise ValueError(f"RopeScaling: `{name}` must be given for longrope.")
        object.__setattr__(self, name, tuple(float(value) for value in values))
